package postgres_test

import (
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
