package idlist_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer/internal/idlist"
)

const uuid = "0190b5a4-0bcd-7eff-8000-00000000000f"

func TestIDsComeBack(t *testing.T) {
	t.Parallel()
	for name, ids := range map[string][]string{
		"none":           {},
		"a UUID":         {uuid},
		"empty":          {""},
		"mixed":          {uuid, "a", "", uuid, uuid, "malformed:shop:17", "a\x00\xff"},
		"upper case":     {strings.ToUpper(uuid)},
		"hyphens astray": {"0190b5a40-bcd-7eff-8000-00000000000f", strings.Repeat("-", 36), strings.Repeat("0", 36)},
		"not hex":        {"0190b5a4-0bcd-7eff-8000-00000000000g", "0190b5a4-0bcd-7eff-8000-0000000000-f"},
		"long":           {strings.Repeat("x", 100_000)},
	} {
		got, err := idlist.Decode(idlist.Encode(ids))
		if diff := cmp.Diff(ids, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%s: error %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestUUIDsAreSmall(t *testing.T) {
	t.Parallel()
	ids := make([]string, idlist.Max)
	for i := range ids {
		ids[i] = fmt.Sprintf("0190b5a4-0000-7000-8000-%012x", i)
	}
	if got, most := len(idlist.Encode(ids)), idlist.Max*16+4; got > most {
		t.Errorf("got %d bytes for %d UUIDs, want %d at most", got, idlist.Max, most)
	}
}

func TestDamagedListsAreErrors(t *testing.T) {
	t.Parallel()
	whole := idlist.Encode([]string{uuid, uuid, "text", uuid})
	for cut := range len(whole) {
		// What is cut between two runs is a shorter list.
		if cut == 1 || cut == 1+1+32 || cut == 1+1+32+1+5 {
			continue
		}
		if got, err := idlist.Decode(whole[:cut]); err == nil {
			t.Errorf("cut after %d bytes: got %q, want an error", cut, got)
		}
	}
	for name, b := range map[string][]byte{
		"another version":   {2},
		"too many UUIDs":    {1, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"too many texts":    {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"too long a text":   {1, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"too long a number": slices.Concat([]byte{1}, slices.Repeat([]byte{0xff}, 11)),
	} {
		if got, err := idlist.Decode(b); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
}

func TestAnyIDsComeBack(t *testing.T) {
	t.Parallel()
	id := rapid.OneOf(rapid.String(), rapid.StringMatching(`[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`))
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOf(id).Draw(t, "ids")
		got, err := idlist.Decode(idlist.Encode(ids))
		if diff := cmp.Diff(ids, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("error %v (-want +got):\n%s", err, diff)
		}
	})
}

// FuzzDecode has any bytes read: what can be read is written and read again alike.
func FuzzDecode(f *testing.F) {
	f.Add(idlist.Encode([]string{uuid, "a", uuid}))
	f.Add([]byte{1, 0, 1, 0})
	f.Add([]byte{1, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := idlist.Decode(b)
		if err != nil {
			return
		}
		if len(ids) > len(b) {
			t.Fatalf("got %d ids of %d bytes", len(ids), len(b))
		}
		again, err := idlist.Decode(idlist.Encode(ids))
		if err != nil || !slices.Equal(ids, again) {
			t.Fatalf("got %q and error %v, want %q", again, err, ids)
		}
	})
}
