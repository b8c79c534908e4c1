package topology_test

import (
	"os"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
