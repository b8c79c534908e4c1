package nats

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/fraiseql/observer"
)

func newSubjects(t testing.TB) Subjects {
	t.Helper()
	s, err := NewSubjects("fraiseql.mutation", 32)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Messages that are stored keep the partition they have: these values never change.
func TestPartitionNeverChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		entityType, entityID string
		n, want              int
	}{
		{"", "", 32, 10}, {"Order", "", 32, 31}, {"", "Order", 32, 29}, {"Order", "1", 32, 22}, {"Order", "2", 32, 7},
		{"Order", "0191d3b0-0000-7000-8000-000000000000", 32, 2}, {"Bestellung", "ä", 32, 8}, {"Order", "\xff\x00", 32, 13},
		{"Order", `["a",1]`, 32, 8}, {"Order", "1", 1, 0}, {"Order", "1", 7, 0}, {"Order", "1", 1000, 750},
	} {
		if got := Partition(c.entityType, c.entityID, c.n); got != c.want {
			t.Errorf("partition %d of {%q, %q, %d, %d}", got, c.entityType, c.entityID, c.n, c.want)
		}
	}
}

// Partition is what its comment says, written in another way.
func TestPartitionIsDocumented(t *testing.T) {
	t.Parallel()
	h := uint64(0xcbf29ce484222325)
	for _, b := range []byte("\x00\x00\x00\x00\x00\x00\x00\x05Order\x00\x00\x00\x00\x00\x00\x00\x0242") {
		h ^= uint64(b)
		h *= 0x100000001b3
	}
	for _, m := range []uint64{0xff51afd7ed558ccd, 0xc4ceb9fe1a85ec53, 1} {
		h = (h ^ h>>33) * m
	}
	if got := Partition("Order", "42", 1000); got != int(h%1000) {
		t.Errorf("%d, want %d", got, h%1000)
	}
}

func TestPartitionsAreEven(t *testing.T) {
	t.Parallel()
	ids := map[string]func(i int) string{
		"numbers": strconv.Itoa,
		"uuids": func(i int) string {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			return strconv.FormatUint(r.Uint64(), 16) + "-" + strconv.FormatUint(r.Uint64(), 16)
		},
		"multiples": func(i int) string { return strconv.Itoa(i * 1024) },
	}
	for name, id := range ids {
		counts := make([]int, 32)
		for i := range 32_000 {
			counts[Partition("Order", id(i), 32)]++
		}
		for p, n := range counts {
			if n < 850 || n > 1150 {
				t.Errorf("%s: partition %d has %d of 32000", name, p, n)
			}
		}
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	s := newSubjects(t)
	e := &observer.Event{ID: "1", Operation: observer.Update, EntityType: "sales.Order", EntityID: "42"}
	p := strconv.Itoa(s.PartitionOf(e))
	got := []string{s.Event("shop 1", e), s.InPartition(3), s.OfDatabase("shop 1"), s.OfEntity(3, "sales.Order"), s.All()}
	want := []string{
		"fraiseql.mutation.shop%201." + p + ".sales%2EOrder.UPDATE", "fraiseql.mutation.*.3.>", "fraiseql.mutation.shop%201.>",
		"fraiseql.mutation.*.3.sales%2EOrder.*", "fraiseql.mutation.>",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	place, err := s.Parse(got[0])
	if err != nil || place.Database != "shop 1" || place.EntityType != "sales.Order" || place.Operation != observer.Update {
		t.Errorf("%+v, %v", place, err)
	}
	for _, bad := range []string{
		"", "fraiseql.mutation", "other.shop.1.Order.UPDATE", "fraiseql.mutation.shop.1.Order", "fraiseql.mutation.shop.32.Order.UPDATE",
		"fraiseql.mutation.shop.01.Order.UPDATE", "fraiseql.mutation.shop.x.Order.UPDATE", "fraiseql.mutation.shop.1.Order.UPSERT",
		"fraiseql.mutation.shop.1.Order.UPDATE.x",
	} {
		if _, err := s.Parse(bad); err == nil {
			t.Errorf("%q is parsed", bad)
		}
	}
}

// What has no entity spreads; what has one stays together, whatever happens to it.
func TestPartitionOfEvents(t *testing.T) {
	t.Parallel()
	s := newSubjects(t)
	seen := map[int]bool{}
	for i := range 1000 {
		seen[s.PartitionOf(&observer.Event{ID: strconv.Itoa(i), EntityType: "Mail", Operation: observer.Custom})] = true
		a := s.PartitionOf(&observer.Event{ID: strconv.Itoa(i), EntityType: "Mail", EntityID: "1", Operation: observer.Custom})
		if b := s.PartitionOf(&observer.Event{EntityType: "Mail", EntityID: "1"}); a != b {
			t.Fatalf("partitions %d and %d of one entity", a, b)
		}
	}
	if len(seen) != 32 {
		t.Errorf("events without an entity are in %d partitions", len(seen))
	}
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	for prefix, ok := range map[string]bool{
		"fraiseql.mutation": true, "x": true, "": false, "a..b": false, ".a": false, "a.": false, "a.*": false, "a.>": false, "a b": false,
		"$JS.API": false, "a.\x00": false, "ä": false, strings.Repeat("x", 257): false,
	} {
		if _, err := NewSubjects(prefix, 1); (err == nil) != ok {
			t.Errorf("%q: %v", prefix, err)
		}
	}
	for n, ok := range map[int]bool{0: false, 1: true, 1024: true, 1025: false, -1: false} {
		if _, err := NewSubjects("x", n); (err == nil) != ok {
			t.Errorf("%d partitions: %v", n, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	long := strings.Repeat("x", 300)
	for _, pair := range [][2]string{
		{"", "%"}, {"Order", "order"}, {"a.b", "a b"}, {"*", ">"}, {"\x00\x7f", "\xff\xfe"}, {"%2E", "."}, {"ä€😀", "%~"}, {long, long + "y"},
		{strings.Repeat(".", 67), strings.Repeat(".", 66)}, {strings.Repeat("x", 119) + strings.Repeat("é", 50), strings.Repeat("x", 118) + strings.Repeat("é", 50)},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		token, other := EncodeToken(a), EncodeToken(b)
		if (a == b) != (token == other) {
			t.Errorf("%q and %q are %q and %q", a, b, token, other)
		}
		if len(token) == 0 || len(token) > longestToken || strings.ContainsAny(token, ".*> \t\r\n") || !utf8.ValidString(token) {
			t.Errorf("%q is the token %q", a, token)
		}
		if !server.IsValidLiteralSubject("x." + token + ".y") {
			t.Errorf("%q is %q: no subject", a, token)
		}
		name, ok := DecodeToken(token)
		if short := !strings.Contains(token, shortened); ok != short || short && name != a {
			t.Errorf("%q is %q and back %q, %v", a, token, name, ok)
		}
		if name, ok := DecodeToken(a); ok && EncodeToken(name) != a {
			t.Errorf("%q is decoded to %q", a, name)
		}
	})
}
