package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
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
	next, err := e.check(text)
	if err != nil {
		return err
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
	// shown is it as a person sees it, parts are its values.
	shown []byte
	parts map[string]any
}

// newEdit refuses what has no request.
func newEdit(d *observer.Delivery) (*edit, error) {
	if d.Malformed != nil {
		return nil, fmt.Errorf("%s is a log entry that is not an event, and has no request: repair it in the change log, see `%s dlq show %s`",
			d.Key, program, d.Key)
	}
	e := &edit{d: d}
	var shown bytes.Buffer
	if json.Unmarshal(d.Request, &e.parts) != nil || len(e.parts) == 0 || json.Indent(&shown, d.Request, "", "  ") != nil {
		return nil, fmt.Errorf("%s has no request yet: it is rendered when the delivery is run again", d.Key)
	}
	shown.WriteByte('\n')
	e.shown = shown.Bytes()
	return e, nil
}

// addressed are the parts of requests, by type of action, that say where the
// first attempt went. They are for people: the configuration says where the next
// one goes.
func addressed(actionType string) []string {
	switch actionType {
	case "webhook":
		return []string{"method", "url"}
	case "email":
		return []string{"from", "to", "cc", "bcc", "reply_to"}
	}
	return nil
}

// check gives the request to store, nil when it is the present one. It has the
// parts of that, or fewer: one that is left out is rendered again.
func (e *edit) check(text []byte) (json.RawMessage, error) {
	var parts map[string]any
	if err := json.Unmarshal(text, &parts); err != nil {
		return nil, fmt.Errorf("nothing was changed: the request is not a JSON object: %w", err)
	}
	if len(parts) == 0 {
		return nil, errors.New("nothing was changed: the request is empty; to give a dead letter up use `dlq remove`")
	}
	for name, value := range parts {
		if err := e.checkPart(name, value); err != nil {
			return nil, fmt.Errorf("nothing was changed: %w", err)
		}
	}
	for _, name := range addressed(e.d.ActionType) {
		if !reflect.DeepEqual(parts[name], e.parts[name]) {
			return nil, fmt.Errorf("nothing was changed: %q says where the first attempt went; where the next one goes is in the configuration", name)
		}
	}
	if reflect.DeepEqual(parts, e.parts) {
		return nil, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

func (e *edit) checkPart(name string, value any) error {
	present, ok := e.parts[name]
	if !ok {
		return fmt.Errorf("the request has no %q; it has %s", name, strings.Join(slices.Sorted(maps.Keys(e.parts)), ", "))
	}
	if reflect.TypeOf(value) != reflect.TypeOf(present) {
		return fmt.Errorf("%q is %s, and was %s", name, kindOf(value), kindOf(present))
	}
	return nil
}

// kindOf is what JSON calls a value.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a text"
	case float64:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	}
	return "an object"
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
