package testenv

// Runner is what [testing.M] is.
type Runner interface {
	// Run runs the tests and returns the exit code.
	Run() int
}

// Main runs the tests of a package and then ends the server they shared, if
// they started one. A package whose TestMain does not call it leaves that to
// the moments after its process ended. It returns the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
func Main(m Runner) int {
	defer shared.end()
	return m.Run()
}
