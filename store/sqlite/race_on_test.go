//go:build race

package sqlite

// raceDetector: SQLite, which is Go here, takes ten times as long.
const raceDetector = true
