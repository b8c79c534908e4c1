package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fraiseql/observer/config"
)

// checkPlace says what is wrong with the directory of a SQLite state, and what to
// do.
func checkPlace(state config.State) error {
	path := state.FilePath()
	if path == "" {
		return nil
	}
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("state %s: the directory %s does not exist; create it, or give another [state] url", path, dir)
	case err == nil && !info.IsDir():
		return fmt.Errorf("state %s: %s is not a directory; give another [state] url", path, dir)
	}
	return nil
}
