//go:build unix

package testenv_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

// child prepares this test binary to run one test with variables of its own.
func child(t *testing.T, test string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$", "-test.v", "-test.count=1", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), append([]string{"TESTENV_CHILD=" + test, "TEST_DATABASE_URL="}, env...)...)
	return cmd
}

// onlyAsChild skips what is part of another test.
func onlyAsChild(t *testing.T) {
	t.Helper()
	if os.Getenv("TESTENV_CHILD") != t.Name() {
		t.Skip("runs in a process of its own, started by another test")
	}
}

func TestChildWithServers(t *testing.T) {
	t.Parallel()
	onlyAsChild(t)
	for _, server := range []*testenv.Postgres{testenv.SharedPostgres(t), testenv.PrivatePostgres(t, testenv.Options{})} {
		conn := testenv.Connect(t, server.URL())
		_, _ = os.Stdout.WriteString("\nserver " + server.URL() + " " + testenv.Value[string](t, conn, "SHOW data_directory") + "\n")
		if os.Getenv("TESTENV_STAY") != "" {
			go func() { // a backend that is busy when the end comes
				_, _ = conn.Exec(t.Context(), "SELECT count(*) FROM generate_series(1, 1e9::bigint) g, generate_series(1, 1e9::bigint) h")
			}()
		}
	}
	if os.Getenv("TESTENV_STAY") != "" {
		_, _ = os.Stdout.WriteString("ready\n")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the other test kills this process
	}
}

// serverOf is what TestChildWithServers tells of one of its servers.
type serverOf struct{ url, data string }

func serversIn(output string) []serverOf {
	var found []serverOf
	for line := range strings.Lines(output) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "server" {
			found = append(found, serverOf{fields[1], fields[2]})
		}
	}
	return found
}

func (s serverOf) gone(t *testing.T) bool {
	t.Helper()
	_, err := os.Stat(filepath.Dir(filepath.Dir(s.data)))
	return os.IsNotExist(err) && !listening(t, s.url)
}

// TestServersEndWithTheirProcess kills a test process that has servers.
func TestServersEndWithTheirProcess(t *testing.T) {
	t.Parallel()
	testenv.PrivatePostgres(t, testenv.Options{}) // or there is nothing to test
	killedWithServers(t, child(t, "TestChildWithServers", "TESTENV_STAY=1"))
}

// killedWithServers kills a child that has two servers and waits for it: they end
// with it.
func killedWithServers(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "ready"; {
		output.WriteString(lines.Text() + "\n")
	}
	servers := twoServers(t, output.String())
	for _, server := range servers {
		if !listening(t, server.url) {
			t.Fatalf("%s does not listen before the kill", server.url)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for _, server := range servers {
		eventually(t, "the server and its files are gone", func() bool { return server.gone(t) })
	}
}

// TestMainEndsTheServers: with Main nothing is left when the process ends.
func TestMainEndsTheServers(t *testing.T) {
	t.Parallel()
	testenv.PrivatePostgres(t, testenv.Options{})
	endsWithServers(t, child(t, "TestChildWithServers"))
}

// endsWithServers runs a child that has two servers, of which nothing is left.
func endsWithServers(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, server := range twoServers(t, string(out)) {
		if !server.gone(t) {
			t.Errorf("%s is still there", server.data)
		}
	}
}

func twoServers(t *testing.T, output string) []serverOf {
	t.Helper()
	servers := serversIn(output)
	if len(servers) != 2 {
		t.Fatalf("the child has %d servers:\n%s", len(servers), output)
	}
	return servers
}

func TestChildThatFails(t *testing.T) {
	t.Parallel()
	onlyAsChild(t)
	other := testenv.Connect(t, testenv.Database(t))
	_, _ = other.Exec(t.Context(), "SELECT * FROM in_another_database")
	t.Run("inner", func(t *testing.T) {
		t.Parallel()
		mine := testenv.Connect(t, testenv.Database(t))
		_, _ = mine.Exec(t.Context(), "SELECT * FROM in_the_database_of_the_test")
		private := testenv.Connect(t, testenv.PrivatePostgres(t, testenv.Options{}).URL())
		_, _ = private.Exec(t.Context(), "SELECT * FROM in_the_private_server")
		t.Fail()
	})
}

func TestFailureShowsTheLog(t *testing.T) {
	t.Parallel()
	testenv.PrivatePostgres(t, testenv.Options{})
	out, err := child(t, "TestChildThatFails").CombinedOutput()
	if err == nil {
		t.Fatalf("the child passed:\n%s", out)
	}
	inner, _, _ := strings.Cut(string(out), "--- FAIL: TestChildThatFails ")
	for _, want := range []string{`relation "in_the_database_of_the_test" does not exist`, `relation "in_the_private_server" does not exist`} {
		if !strings.Contains(inner, want) {
			t.Errorf("the output lacks %s:\n%s", want, out)
		}
	}
}

func TestChildWithoutPostgres(t *testing.T) {
	t.Parallel()
	onlyAsChild(t)
	testenv.PrivatePostgres(t, testenv.Options{})
}

// TestWithoutPostgres: a developer without a server sees a skip and why, CI a
// failure.
func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	withoutServer(t, "TestChildWithoutPostgres", "TEST_POSTGRES_BIN=/nowhere")
}

// withoutServer runs a child that asks for a server where there is none: the last
// of the variables says so.
func withoutServer(t *testing.T, test string, env ...string) {
	t.Helper()
	reason := strings.Replace(env[len(env)-1], "=", " is ", 1)
	for name, c := range map[string]struct{ ci, want string }{
		"developer": {"", "--- SKIP: " + test},
		"ci":        {"true", "--- FAIL: " + test},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := child(t, test, append([]string{"CI=" + c.ci}, env...)...).CombinedOutput()
			if failed := err != nil; failed != (c.ci != "") {
				t.Errorf("exit: %v", err)
			}
			if !strings.Contains(string(out), c.want) || !strings.Contains(string(out), reason) {
				t.Errorf("output lacks %q or the reason:\n%s", c.want, out)
			}
		})
	}
}

// TestGivenServerIsUsed runs a child against a server that TEST_DATABASE_URL names.
func TestGivenServerIsUsed(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{})
	conn := testenv.Connect(t, server.URL())
	testenv.Exec(t, conn, "CREATE ROLE tester LOGIN CREATEDB PASSWORD 'secret'")
	given := strings.Replace(server.URL(), server.URL()[len("postgres://"):strings.Index(server.URL(), "@")], "tester:secret", 1)
	out, err := child(t, "TestDatabasesAreApart", "TEST_POSTGRES_BIN=/nowhere", "TEST_DATABASE_URL="+given).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestDatabasesAreApart") {
		t.Errorf("%v\n%s", err, out)
	}
	if n := testenv.Value[int](t, conn, "SELECT count(*) FROM pg_database WHERE datname LIKE 'test\\_%'"); n != 0 {
		t.Errorf("%d databases were left on the server", n)
	}
}
