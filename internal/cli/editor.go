package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
)

// inEditor lets a person change a text in the editor of the environment.
func (c *cli) inEditor(cmd *cobra.Command, text []byte) (_ []byte, err error) {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"))
	if editor == "" {
		return nil, usageError(errors.New("no editor is known: set VISUAL or EDITOR, or give the request with --request FILE"))
	}
	// In a directory of its own, which only its owner may read: requests have
	// what the database has.
	dir, err := os.MkdirTemp("", "fraiseql-observer-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "request.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	// Ctrl-C is the editor's: were it to end this process, the file would stay.
	_, stop := notify(cmd.Context(), func() {})
	defer stop()
	if err := runEditor(cmd.Context(), editor, path, cmd.InOrStdin(), c.err); err != nil {
		return nil, fmt.Errorf("nothing was changed: the editor %q: %w", editor, err)
	}
	return os.ReadFile(path) //nolint:gosec // the path is made above
}

// runEditor runs what people write in EDITOR: a command, possibly with
// arguments. Results are nothing that it prints.
func runEditor(ctx context.Context, editor, path string, in io.Reader, out io.Writer) error {
	var cmd *exec.Cmd
	if runtime.GOOS == "windows" {
		words := strings.Fields(editor)
		cmd = exec.CommandContext(ctx, words[0], append(words[1:], path)...) //nolint:gosec // the editor is the user's own choice
	} else {
		cmd = exec.CommandContext(ctx, "sh", "-c", editor+` "$@"`, editor, path) //nolint:gosec // the editor is the user's own choice
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	return cmd.Run()
}
