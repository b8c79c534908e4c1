package middleware

import (
	"testing"

	"github.com/fraiseql/observer"
)

// FuzzDedupKey: two deliveries share a key only when their tenants and their own
// keys are the same, and it is never long.
func FuzzDedupKey(f *testing.F) {
	f.Add("a", "e/o/0", "b", "e/o/0")
	f.Add("", "1:a/e", "a", "e")
	f.Add("a/1:b", "x", "a", "1:b/x")
	f.Fuzz(func(t *testing.T, tenant, key, otherTenant, otherKey string) {
		of := func(tenant, key string) string {
			return dedupKey(&observer.Delivery{Key: key, Event: &observer.Event{TenantID: tenant}})
		}
		one, other := of(tenant, key), of(otherTenant, otherKey)
		if same := tenant == otherTenant && key == otherKey; (one == other) != same {
			t.Errorf("%q of %q has the key %q, and %q of %q %q", key, tenant, one, otherKey, otherTenant, other)
		}
		if len(one) > maxDedupKey {
			t.Errorf("%d bytes", len(one))
		}
	})
}
