package topology

import (
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// A bridge that ended without a word counts for an hour, and one that ended in peace
// not at all.
func TestBridgesThatCountNoMore(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		bridge observer.Lease
		want   bool
	}{
		"runs":               {observer.Lease{Holder: "a", Remaining: time.Second}, false},
		"crashed":            {observer.Lease{Holder: "a", Remaining: -59 * time.Minute}, false},
		"crashed long since": {observer.Lease{Holder: "a", Remaining: -61 * time.Minute}, true},
		"ended":              {observer.Lease{Remaining: -time.Second}, true},
	} {
		if got := isGone(tt.bridge); got != tt.want {
			t.Errorf("%s: counts no more is %t, want %t", name, got, tt.want)
		}
	}
}
