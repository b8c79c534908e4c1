package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/fraiseql/observer/middleware"
)

// The last line has what became of deliveries, and of deduplication and the cache
// what there was.
func TestSummary(t *testing.T) {
	t.Parallel()
	cache := middleware.CacheCounts{Hits: 11, Misses: 12, Failures: 13}
	for want, counts := range map[string]middleware.Counts{
		"done=0 scheduled=0 dead=0 dropped=0 unrecorded=0": {},
		"done=1 scheduled=3 dead=4 dropped=2 unrecorded=5 duplicates_detected=6 cache_misses=9": {
			Done: 1, Dropped: 2, Scheduled: 3, Dead: 4, Unrecorded: 5, DedupDetected: 6, Cache: middleware.CacheCounts{Misses: 9},
		},
		"done=0 scheduled=0 dead=0 dropped=0 unrecorded=0 duplicates_detected=7 duplicates_skipped=8 claims_answered_by_state_store=9 " +
			"handled_without_claim=10 cache_hits=11 cache_misses=12 cache_failures=13 republished=7": {
			DedupDetected: 7, DedupSkipped: 8, DedupBypassed: 9, DedupOpen: 10, Cache: cache,
		},
	} {
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).LogAttrs(t.Context(), slog.LevelInfo, "stopped", summary(counts, republished(counts))...)
		if _, got, _ := strings.Cut(strings.TrimSpace(out.String()), "msg=stopped "); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// republished makes up a count for the one case that has all of them.
func republished(counts middleware.Counts) uint64 {
	if counts.DedupOpen > 0 {
		return 7
	}
	return 0
}
