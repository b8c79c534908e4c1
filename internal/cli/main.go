// Package cli is the command line of fraiseql-observer: it parses flags, glues
// the packages together and prints. What it prints is real state; a value that
// cannot be known is printed as unknown.
//
// Results go to standard output, as aligned text or, with --format json, as one
// JSON document with stable keys. Everything else, log and errors, goes to
// standard error. An error is one line that says what to do.
package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

const program = "fraiseql-observer"

// cli is what the commands of one call share.
type cli struct {
	out, err io.Writer
	format   format
	settings settings
	// began says that a command's own code runs: what fails before is a mistake
	// in the command line.
	began bool
}

// Main runs the command line and returns the exit code of the process.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &cli{out: stdout, err: stderr, format: formatText}
	root := c.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !c.began {
		err = usageError(err)
	}
	c.report(err)
	return codeOf(err)
}

// report prints an error for a person. Errors of a configuration have a line
// for each mistake; every line says who speaks.
func (c *cli) report(err error) {
	if err == nil || err.Error() == "" {
		return
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintf(c.err, "%s: %s\n", program, printable(strings.TrimSuffix(line, "\n")))
	}
}

// do makes the RunE of a command from what it does.
func (c *cli) do(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c.began = true
		return f(cmd, args)
	}
}
