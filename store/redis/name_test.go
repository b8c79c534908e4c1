package redis

import (
	"strings"
	"testing"
)

// FuzzEpoch: the name of an epoch says again what it was made of, and its keys are
// its own.
func FuzzEpoch(f *testing.F) {
	f.Add("K3XO", "0b1f", "7", "event/notify/0")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, id, run, evicted, key string) {
		if strings.Contains(id+run, "/") {
			return
		}
		e := parseEpoch(id + "/" + run + "/" + evicted)
		if e != (epoch{id, run, evicted}) {
			t.Errorf("%q, %q and %q are read as %+v", id, run, evicted, e)
		}
		if own, ok := strings.CutPrefix(e.key(key), e.marker()+":"); !ok || own != key {
			t.Errorf("key %q became %q", key, e.key(key))
		}
	})
}
