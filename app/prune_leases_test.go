package app

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPruneRemovesLeases: every process leaves a lease of its own behind. Those of
// processes that live stay, however long ago they began.
func TestPruneRemovesLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPruned(t, "", "shop")
		stop := p.start(t)
		defer stop()
		const gone, lives = "database/member/gone", "database/member/lives"
		for name, ttl := range map[string]time.Duration{gone: time.Second, lives: 3 * leaseKeep} {
			if _, err := p.topology.Store.AcquireLease(t.Context(), name, "somebody", ttl); err != nil {
				t.Fatal(err)
			}
		}
		want := func(when string, names ...string) {
			t.Helper()
			all, err := p.topology.Store.Leases(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range all {
				got = append(got, l.Name)
			}
			if d := cmp.Diff(names, got); d != "" {
				t.Errorf("%s (-want +got):\n%s", when, d)
			}
		}
		round(leaseKeep - time.Minute)
		want("while it may come back", gone, lives)
		round(2 * pruneInterval)
		want("a day later", lives)
	})
}
