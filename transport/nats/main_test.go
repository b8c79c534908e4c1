package nats_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/fraiseql/observer/internal/testenv"
)

// runner runs the tests, and then ends the servers that they shared.
type runner struct{ m *testing.M }

func (r runner) Run() int { return testenv.Main(r.m) }

func TestMain(m *testing.M) { goleak.VerifyTestMain(runner{m}) }
