package sqlite

import (
	"log/slog"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// waker turns writes to a database file into wake-ups. A nil waker never wakes.
type waker struct {
	watcher *fsnotify.Watcher
	woken   chan struct{}
	done    chan struct{}
}

// newWaker watches the directory of the file: the -wal file comes and goes, and
// a watch on it would go with it. Where watching is impossible it says so and
// returns nil, and polling remains.
func newWaker(path string, logger *slog.Logger) *waker {
	w, err := watch(path)
	if err != nil {
		logger.Warn("cannot watch the database file: changes are found by polling only",
			slog.String("path", path), slog.Any("error", err))
		return nil
	}
	return w
}

func watch(path string) (*waker, error) {
	// SQLite puts the -wal file beside the file a link points to.
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := watcher.Add(filepath.Dir(file)); err != nil {
		_ = watcher.Close() // nothing is watched; the first error says why
		return nil, err
	}
	w := &waker{watcher: watcher, woken: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run(filepath.Base(file))
	return w, nil
}

// run ends when the watcher is closed.
func (w *waker) run(base string) {
	defer close(w.done)
	events, errs := w.watcher.Events, w.watcher.Errors
	for events != nil {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			name := filepath.Base(e.Name)
			if (name == base || name == base+"-wal") && e.Has(fsnotify.Write|fsnotify.Create|fsnotify.Rename|fsnotify.Remove) {
				w.signal()
			}
		case _, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			w.signal() // an overflow: something happened
		}
	}
}

func (w *waker) signal() {
	select {
	case w.woken <- struct{}{}:
	default: // a wake-up is waiting already
	}
}

func (w *waker) events() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.woken
}

func (w *waker) close() error {
	if w == nil {
		return nil
	}
	err := w.watcher.Close()
	<-w.done
	return err
}
