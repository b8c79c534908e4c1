package sqlite

// RaceDetector is for the tests outside of the package.
const RaceDetector = raceDetector
