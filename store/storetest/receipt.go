package storetest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	observer "github.com/fraiseql/observer"
)

func receiptTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"receipt/ids come back":                         eachName(testReceiptIDs),
		"receipt/read on from a number":                 eachName(testReceiptPages),
		"receipt/many at once":                          testReceiptMany,
		"receipt/groups and databases are separate":     testReceiptNames,
		"receipt/removed by number":                     eachName(testReceiptRemoved),
		"receipt/the oldest are pruned":                 testReceiptPruned,
		"receipt/no number comes back":                  testReceiptSurvives,
		"receipt/nothing after the context ended":       testReceiptContext,
		"receipt/none appears behind a reader":          oneStore(testReceiptRace),
		"two stores/no receipt appears behind a reader": twoStores(testReceiptRace),
	}
}

const group = "fraiseql_observer_worker"

func saveReceipts(t tester, s observer.StateStore, database string, ids ...string) {
	t.Helper()
	if err := s.SaveReceipts(t.Context(), group, map[string][]string{database: ids}); err != nil {
		t.Fatalf("save receipts: %v", err)
	}
}

func receipts(t tester, s observer.StateStore, database string, after int64, limit int) []observer.ReceiptBatch {
	t.Helper()
	found, err := s.Receipts(t.Context(), group, database, after, limit)
	if err != nil {
		t.Fatalf("read receipts: %v", err)
	}
	for i, b := range found {
		if b.Seq <= after || i > 0 && b.Seq <= found[i-1].Seq {
			t.Errorf("batch %d of %+v after %d does not ascend", i, found, after)
		}
	}
	return found
}

// receiptIDs are those of all batches of a database, batch by batch.
func receiptIDs(t tester, s observer.StateStore, database string) (ids [][]string) {
	t.Helper()
	for _, b := range receipts(t, s, database, 0, math.MaxInt32) {
		ids = append(ids, b.IDs)
	}
	return ids
}

func testReceiptIDs(n names) {
	lists := [][]string{
		{"0190b5a4-0000-7000-8000-00000000000a"},
		{"0190B5A4-0000-7000-8000-00000000000A", "0190b5a4-0000-7000-8000-00000000000a", "0190b5a4-0000-7000-8000-00000000000a"},
		{"", "ü", "a\x00b", "\xff", "malformed:shop:17", strings.Repeat("x", 100_000)},
	}
	for _, ids := range lists {
		n.h.clock.advance(time.Second)
		saveReceipts(n, n.a, "shop", ids...)
	}
	wantDiff(n, "ids", lists, receiptIDs(n, n.b, "shop"))
	last := receipts(n, n.b, "shop", 0, 10)[2]
	wantDiff(n, "saved at", n.h.clock.Now(), last.SavedAt)
	saveReceipts(n, n.a, "shop")
	if err := n.a.SaveReceipts(n.Context(), group, nil); err != nil {
		n.Errorf("save none: %v", err)
	}
	wantDiff(n, "ids", lists, receiptIDs(n, n.b, "shop"))
}

func testReceiptPages(n names) {
	for i := range 7 {
		saveReceipts(n, n.a, "shop", strconv.Itoa(i))
		saveReceipts(n, n.b, "other", strconv.Itoa(-i))
	}
	var got []string
	after := int64(0)
	for _, size := range []int{3, 3, 1, 0} {
		page := receipts(n, n.b, "shop", after, 3)
		wantDiff(n, "size of a page", size, len(page))
		for _, b := range page {
			got, after = append(got, b.IDs...), b.Seq
		}
	}
	wantDiff(n, "ids", []string{"0", "1", "2", "3", "4", "5", "6"}, got)
	saveReceipts(n, n.a, "shop", "7")
	wantDiff(n, "saved since", []string{"7"}, receipts(n, n.b, "shop", after, 3)[0].IDs)
}

func testReceiptMany(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	ids := make([]string, 10_000)
	for i := range ids {
		ids[i] = fmt.Sprintf("0190b5a4-0000-7000-8000-%012d", i)
	}
	saveReceipts(t, s, "shop", ids...)
	wantDiff(t, "ids", ids, slices.Concat(receiptIDs(t, s, "shop")...))
}

func testReceiptNames(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	texts := []string{"", "shop", "SHOP", "shop ", "a\x00b", "żółw/'\"", strings.Repeat("x", 5000), strings.Repeat("x", 5001)}
	for i, group := range texts {
		handled := map[string][]string{}
		for j, database := range texts {
			handled[database] = []string{fmt.Sprint(i, "/", j)}
		}
		if err := s.SaveReceipts(t.Context(), group, handled); err != nil {
			t.Fatal(err)
		}
	}
	for i, group := range texts {
		for j, database := range texts {
			found, err := s.Receipts(t.Context(), group, database, 0, 10)
			if err != nil || len(found) != 1 || !slices.Equal(found[0].IDs, []string{fmt.Sprint(i, "/", j)}) {
				t.Errorf("group %d, database %d: got %v and error %v", i, j, found, err)
			}
		}
	}
}

func testReceiptRemoved(n names) {
	for i := range 5 {
		saveReceipts(n, n.a, "shop", strconv.Itoa(i))
	}
	saveReceipts(n, n.a, "other", "x")
	all, other := receipts(n, n.a, "shop", 0, 10), receipts(n, n.a, "other", 0, 10)
	remove := func(group, database string, seqs ...int64) {
		n.Helper()
		if err := n.b.RemoveReceipts(n.Context(), group, database, seqs...); err != nil {
			n.Errorf("remove: %v", err)
		}
	}
	remove(group, "shop")
	remove(group, "other", all[0].Seq)
	remove("nobody", "shop", all[0].Seq)
	wantDiff(n, "after removing what is not there", all, receipts(n, n.a, "shop", 0, 10))
	remove(group, "shop", all[3].Seq, all[1].Seq, all[4].Seq+100, other[0].Seq)
	remove(group, "shop", all[1].Seq)
	wantDiff(n, "left", []observer.ReceiptBatch{all[0], all[2], all[4]}, receipts(n, n.a, "shop", 0, 10))
	wantDiff(n, "left of the other", other, receipts(n, n.a, "other", 0, 10))
}

func testReceiptPruned(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for i := range 6 {
		saveReceipts(t, s, []string{"shop", "other"}[i%2], strconv.Itoa(i))
		h.clock.advance(time.Hour)
	}
	for _, step := range []struct {
		keep          time.Duration
		limit, want   int
		shop, another [][]string
	}{
		{7 * time.Hour, 10, 0, [][]string{{"0"}, {"2"}, {"4"}}, [][]string{{"1"}, {"3"}, {"5"}}},
		{4 * time.Hour, 1, 1, [][]string{{"2"}, {"4"}}, [][]string{{"1"}, {"3"}, {"5"}}},
		{4 * time.Hour, 10, 2, [][]string{{"4"}}, [][]string{{"3"}, {"5"}}},
		{4 * time.Hour, 10, 0, [][]string{{"4"}}, [][]string{{"3"}, {"5"}}},
		{0, 0, 0, [][]string{{"4"}}, [][]string{{"3"}, {"5"}}},
		{0, 10, 3, nil, nil},
	} {
		removed, err := s.PruneReceipts(t.Context(), step.keep, step.limit)
		if err != nil || removed != step.want {
			t.Errorf("keep %s, limit %d: removed %d and error %v, want %d", step.keep, step.limit, removed, err, step.want)
		}
		wantDiff(t, "shop", step.shop, receiptIDs(t, s, "shop"))
		wantDiff(t, "other", step.another, receiptIDs(t, s, "other"))
	}
}

// testReceiptSurvives removes what has the highest number before the store is
// opened again: a reader that goes on after it misses nothing.
func testReceiptSurvives(t *testing.T, h *harness) {
	opts := Options{Dir: t.TempDir()}
	s := h.open(t, opts)
	saveReceipts(t, s, "shop", "a")
	saveReceipts(t, s, "shop", "b")
	before := receipts(t, s, "shop", 0, 10)
	if err := s.RemoveReceipts(t.Context(), group, "shop", before[1].Seq); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.store(t, opts)
	wantDiff(t, "after opening again", before[:1], receipts(t, s, "shop", 0, 10))
	saveReceipts(t, s, "shop", "c")
	after := receipts(t, s, "shop", before[1].Seq, 10)
	if len(after) != 1 || !slices.Equal(after[0].IDs, []string{"c"}) {
		t.Errorf("after %d: got %+v, want c", before[1].Seq, after)
	}
}

func testReceiptContext(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	saveReceipts(t, s, "shop", "a")
	want := receipts(t, s, "shop", 0, 10)
	h.clock.advance(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"save":   func() error { return s.SaveReceipts(ctx, group, map[string][]string{"shop": {"b"}}) },
		"read":   func() error { _, err := s.Receipts(ctx, group, "shop", 0, 10); return err },
		"remove": func() error { return s.RemoveReceipts(ctx, group, "shop", want[0].Seq) },
		"prune":  func() error { _, err := s.PruneReceipts(ctx, 0, 10); return err },
	} {
		wantError(t, name, call(), context.Canceled)
	}
	wantDiff(t, "stored", want, receipts(t, s, "shop", 0, 10))
}

// testReceiptRace has a reader go on from the last number it was given while many
// save. It gets each batch once.
func testReceiptRace(t *testing.T, _ *harness, stores []observer.StateStore) {
	t.Helper()
	const savers, each = 16, 40
	saved := make(chan struct{})
	var got []string
	together(savers+1, func(i int) {
		if i < savers {
			for n := range each {
				database := []string{"shop", "other"}[n%2]
				saveReceipts(t, stores[i%len(stores)], database, fmt.Sprintf("%02d-%02d", i, n))
			}
			saved <- struct{}{}
			return
		}
		after, running := int64(0), savers
		for last := false; !last; {
			last = running == 0 // everything is there before this reading
			page := receipts(t, stores[0], "shop", after, 5)
			for _, b := range page {
				got, after = append(got, b.IDs...), b.Seq
			}
			last = last && len(page) == 0
			for more := true; more && running > 0; {
				select {
				case <-saved:
					running--
				default:
					more = false
				}
			}
		}
	})
	var want []string
	for i := range savers {
		for n := 0; n < each; n += 2 {
			want = append(want, fmt.Sprintf("%02d-%02d", i, n))
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("got %d batches, want %d (-want +got):\n%.2000s", len(got), len(want), diff)
	}
}
