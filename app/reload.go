package app

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/fraiseql/observer/internal/backoff"
)

// watchInterval is the time between two looks at the configuration file.
const watchInterval = time.Second

// Reload reads the configuration again and puts its observers in place, all or
// none. A file with an error changes nothing. It is safe for concurrent use.
func (a *App) Reload() error {
	if a.opts.Load == nil {
		return errors.New("this daemon was started without a way to read its configuration again")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	next, err := a.opts.Load()
	if err != nil {
		return err
	}
	if err := a.topology.Reload(next); err != nil {
		return err
	}
	// What a restart would change, not what differs from the last reload: that
	// was never in effect.
	if changed := a.opts.Config.Diff(next); len(changed) > 0 {
		a.logger.Warn("these sections changed and take effect at the next start", "sections", strings.Join(changed, ", "))
	}
	a.current = next
	a.logger.Info("configuration reloaded", "observers", len(next.Observers))
	return nil
}

// watch reloads when the configuration file is not the one that was loaded any
// more, and after every later change, until ctx ends. It looks at the file's time and
// size instead of asking the operating system for news: editors and
// configuration managers replace files in too many ways.
func (a *App) watch(ctx context.Context) error {
	if a.opts.Load == nil || a.opts.Config.Path == "" {
		<-ctx.Done()
		return nil
	}
	seen := stampOf(a.opts.Config.Modified, a.opts.Config.Size)
	if a.opts.Config.Modified.IsZero() { // it was not made by config.Load
		seen = stamp(a.opts.Config.Path)
	}
	for {
		if now := stamp(a.opts.Config.Path); now != seen && now != (fileStamp{}) {
			seen = now
			if err := a.Reload(); err != nil {
				a.logger.Error("configuration was not reloaded; the running one stays", "error", err)
			}
		}
		if !backoff.Wait(ctx, nil, watchInterval) {
			return nil
		}
	}
}

type fileStamp struct {
	modified int64
	size     int64
}

// stamp is zero while the file is not there, as in the middle of being replaced.
func stamp(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return stampOf(info.ModTime(), info.Size())
}

func stampOf(modified time.Time, size int64) fileStamp {
	return fileStamp{modified: modified.UnixNano(), size: size}
}
