package postgres_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) {
	// The random histories of storetest run on three kinds of databases here, and
	// each step of them is a round trip. The flag -rapid.checks asks for more.
	if err := flag.Set("rapid.checks", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(testenv.Main(m))
}
