package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/delivery"
)

func (c *cli) dlqEdit() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "edit KEY",
		Short: "Change the request of a dead letter before it is run again",
		Long: "Open the rendered request of a dead letter in $VISUAL or $EDITOR, or take another one\n" +
			"with --request, and store it. What it may change is what is sent; where it is sent,\n" +
			"the configuration says. The key stays the same, so a receiver that has taken the\n" +
			"first request may answer that it knows this one.",
		Args: arguments(1, 1),
	}
	c.settings.flags(cmd)
	cmd.Flags().StringVar(&from, "request", "", "take the request from a `FILE`, or from standard input (-), instead of an editor")
	_ = cmd.MarkFlagFilename("request", "json")
	cmd.RunE = c.do(func(cmd *cobra.Command, args []string) error {
		d, err := c.dead(cmd, args[0])
		if err != nil {
			return err
		}
		e, err := newEdit(d)
		if err != nil {
			return err
		}
		var text []byte
		if from != "" {
			text, err = readAll(from, cmd.InOrStdin())
		} else {
			text, err = c.inEditor(cmd, e.shown)
		}
		if err != nil {
			return err
		}
		return c.edit(cmd, e, text)
	})
	return cmd
}

func (c *cli) edit(cmd *cobra.Command, e *edit, text []byte) error {
	next, err := delivery.CheckEdit(e.d, text, config.Editable(e.d.ActionType))
	switch {
	case errors.Is(err, delivery.ErrEmptyRequest):
		return fmt.Errorf("nothing was changed: %w; to give a dead letter up use `dlq remove`", err)
	case err != nil:
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if next == nil {
		return c.printOutcome(outcome{Key: e.d.Key, Result: unchanged}, "%s is as it was: the request was not changed", e.d.Key)
	}
	err = c.withState(cmd.Context(), writeState, func(store observer.StateStore) error {
		return delivery.Edit(cmd.Context(), store, e.d.Key, func(stored json.RawMessage) (json.RawMessage, error) {
			if !bytes.Equal(stored, e.d.Request) {
				return nil, errors.New("somebody else has changed the request meanwhile: look at it with `dlq show`, and edit it again")
			}
			return next, nil
		})
	})
	if err != nil {
		return notFound(e.d.Key, err)
	}
	return c.printOutcome(outcome{Key: e.d.Key, Result: edited},
		"edited %s: the same key carries another body from now on; run it with `%s dlq retry %s`", describe(e.d), program, e.d.Key)
}

// edit is a request that a person changes.
type edit struct {
	d *observer.Delivery
	// shown is it as a person sees it.
	shown []byte
}

// newEdit refuses what has no request.
func newEdit(d *observer.Delivery) (*edit, error) {
	switch _, err := delivery.Parts(d); {
	case errors.Is(err, delivery.ErrNotAnEvent):
		return nil, fmt.Errorf("%s is a log entry that is not an event, and has no request: repair it in the change log, see `%s dlq show %s`",
			d.Key, program, d.Key)
	case err != nil:
		return nil, fmt.Errorf("%s has no request yet: it is rendered when the delivery is run again", d.Key)
	}
	var shown bytes.Buffer
	if err := json.Indent(&shown, d.Request, "", "  "); err != nil {
		return nil, err
	}
	shown.WriteByte('\n')
	return &edit{d: d, shown: shown.Bytes()}, nil
}

// maxRequest is more than any request that is kept.
const maxRequest = 64 << 20

// readAll reads a file, or standard input for -.
func readAll(path string, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(stdin, maxRequest))
	}
	text, err := os.ReadFile(path) //nolint:gosec // whoever runs the command names the file
	if err != nil {
		return nil, usageError(err)
	}
	return text, nil
}
