package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

// exported is what dlq export prints as JSON when the lines go to a file.
type exported struct {
	File  string `json:"file"`
	Count int    `json:"count"`
}

func (c *cli) dlqExport() *cobra.Command {
	var chosen selection
	var path string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write dead letters as JSON lines",
		Long: "Write all dead letters, or those that the flags select, as one JSON object a line,\n" +
			"with everything that dlq import needs to store them again, here or elsewhere.\n" +
			"Nothing is removed.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	chosen.flags(cmd, 0)
	cmd.Flags().StringVar(&path, "output", "-", "the `FILE` to write; standard output unless given")
	_ = cmd.MarkFlagFilename("output", "jsonl", "ndjson")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		filter, err := chosen.dead()
		if err != nil {
			return err
		}
		if path == "-" {
			_, err := c.export(cmd.Context(), filter, c.out)
			return err
		}
		n, err := c.exportFile(cmd.Context(), filter, path)
		if err != nil {
			return err
		}
		return c.print(exported{File: path, Count: n}, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "wrote %s to %s\n", count(n, "dead letter"), printable(path))
		})
	})
	return cmd
}

func (c *cli) export(ctx context.Context, filter observer.DeliveryFilter, w io.Writer) (n int, err error) {
	err = c.withState(ctx, readState, func(store observer.StateStore) (err error) {
		n, err = delivery.Export(ctx, store, filter, w)
		return err
	})
	if errors.Is(err, errNoState) {
		return 0, nil
	}
	return n, err
}

// exportFile writes for the owner only: events have what the database has. What
// fails leaves no half of a file.
func (c *cli) exportFile(ctx context.Context, filter observer.DeliveryFilter, path string) (n int, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // whoever runs the command names the file
	if errors.Is(err, os.ErrExist) {
		return 0, fmt.Errorf("%s exists: name another file, or remove it", path)
	}
	if err != nil {
		return 0, err
	}
	n, err = c.export(ctx, filter, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, errors.Join(err, os.Remove(path))
	}
	return n, nil
}

// imported is what dlq import prints.
type imported struct {
	Stored int `json:"stored"`
	// Skipped are there already: the stored ones win.
	Skipped int       `json:"skipped"`
	Bad     []badLine `json:"bad"`
}

type badLine struct {
	Line  int    `json:"line"`
	Error string `json:"error"`
}

func (c *cli) dlqImport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Store the dead letters that dlq export wrote",
		Long: "Store the dead letters that dlq export wrote to FILE, or standard input (-). One\n" +
			"whose key is stored already, in whatever state, is left as it is there.",
		Args: arguments(1, 1),
	}
	c.settings.flags(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, args []string) error {
		in := cmd.InOrStdin()
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return usageError(err)
			}
			defer func() { _ = f.Close() }() // it was only read
			in = f
		}
		return c.importFrom(cmd.Context(), in)
	})
	return cmd
}

func (c *cli) importFrom(ctx context.Context, in io.Reader) error {
	var r delivery.ImportResult
	err := c.withState(ctx, writeState, func(store observer.StateStore) (err error) {
		r, err = delivery.Import(ctx, store, in)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s stored, %d skipped, then: %w", count(r.Stored, "dead letter"), r.Skipped, err)
	}
	i := imported{Stored: r.Stored, Skipped: r.Skipped, Bad: []badLine{}}
	for _, b := range r.Bad {
		i.Bad = append(i.Bad, badLine{Line: b.Line, Error: b.Err.Error()})
	}
	return errors.Join(c.print(i, i.text), i.failure())
}

func (i imported) text(w io.Writer) {
	for _, b := range i.Bad {
		_, _ = fmt.Fprintln(w, printable(fmt.Sprintf("line %d was not stored: %s", b.Line, b.Error)))
	}
	_, _ = fmt.Fprintf(w, "%s stored, %d skipped because they are there", count(i.Stored, "dead letter"), i.Skipped)
	if len(i.Bad) > 0 {
		_, _ = fmt.Fprintf(w, ", %s not understood", count(len(i.Bad), "line"))
	}
	_, _ = fmt.Fprintln(w)
}

// failure is the exit code; the lines have been named.
func (i imported) failure() error {
	if len(i.Bad) > 0 {
		return &codedError{code: exitError}
	}
	return nil
}
