// Package deduptest is the conformance suite of [observer.DedupStore]: every
// store of handlings passes it, a composed one included.
package deduptest

import (
	"context"
	"strings"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

// Subject is a store under test.
type Subject struct {
	Store observer.DedupStore
	// Again opens the same store once more, as another process does; nil where
	// that is not possible.
	Again func(t *testing.T) observer.DedupStore
	// Pass lets so much time go by for the store: it moves its clock, or waits.
	Pass func(d time.Duration)
	// Unit is the shortest time that the store tells from another with certainty.
	Unit time.Duration
}

// Open opens an empty store for a test, and has it closed at its end.
type Open func(t *testing.T) Subject

// Run runs the suite, its tests in parallel.
func Run(t *testing.T, open Open) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Subject){
		"claimed by one":                      testClaimedByOne,
		"claiming again renews":               testRenewed,
		"a lease ends":                        testLeaseEnds,
		"a lease that nobody took is renewed": testRenewedLate,
		"done is not claimed":                 testDone,
		"done is remembered from the end on":  testKeptFromCompletion,
		"done without a claim":                testDoneUnclaimed,
		"done after the lease":                testDoneLate,
		"the longer memory wins":              testDoneTwice,
		"many are done at once":               testDoneMany,
		"busy names the owner":                testBusyNamesOwner,
		"released is free":                    testReleased,
		"only the owner releases":             testReleasedByStranger,
		"release does not undo what is done":  testReleaseOfDone,
		"keys are told apart":                 testKeys,
		"contended":                           testContended,
		"crashes and leases":                  testCrashes,
		"another process sees the same":       testAgain,
		"an ended context changes nothing":    testContext,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func claimOf(key, owner string) observer.DedupClaim {
	return observer.DedupClaim{Key: key, Owner: owner}
}

// lease is one that no test outlasts without passing time.
const lease = time.Hour

func (s Subject) claim(t *testing.T, key, owner string, lease time.Duration) observer.DedupAnswer {
	t.Helper()
	answer, err := s.Store.ClaimDedup(t.Context(), claimOf(key, owner), lease)
	if err != nil {
		t.Fatalf("claim %q for %s: %v", key, owner, err)
	}
	return answer
}

func (s Subject) finish(t *testing.T, keep time.Duration, keys ...string) {
	t.Helper()
	marks := make([]observer.DedupMark, len(keys))
	for i, key := range keys {
		marks[i] = observer.DedupMark{Key: key, Keep: keep}
	}
	if err := s.Store.FinishDedup(t.Context(), marks...); err != nil {
		t.Fatalf("finish %q: %v", keys, err)
	}
}

func (s Subject) release(t *testing.T, key, owner string) {
	t.Helper()
	if err := s.Store.ReleaseDedup(t.Context(), claimOf(key, owner)); err != nil {
		t.Fatalf("release %q of %s: %v", key, owner, err)
	}
}

func (s Subject) want(t *testing.T, key, owner string, want observer.DedupStanding) {
	t.Helper()
	answer := s.claim(t, key, owner, lease)
	if answer.Standing != want {
		t.Fatalf("claim of %q for %s is %s, want %s", key, owner, answer.Standing, want)
	}
	if busy := want == observer.DedupBusy; busy != (answer.Wait > 0) || answer.Wait > lease {
		t.Fatalf("claim of %q for %s is %s for %s", key, owner, answer.Standing, answer.Wait)
	}
}

func testClaimedByOne(t *testing.T, s Subject) {
	s.want(t, "k", "a", observer.DedupClaimed)
	s.want(t, "k", "b", observer.DedupBusy)
	s.want(t, "other", "b", observer.DedupClaimed)
}

func testRenewed(t *testing.T, s Subject) {
	s.claim(t, "k", "a", 3*s.Unit)
	s.want(t, "k", "a", observer.DedupClaimed)
	s.Pass(4 * s.Unit)
	s.want(t, "k", "b", observer.DedupBusy)
}

func testLeaseEnds(t *testing.T, s Subject) {
	s.claim(t, "k", "a", s.Unit)
	s.Pass(2 * s.Unit)
	s.want(t, "k", "b", observer.DedupClaimed)
	s.want(t, "k", "a", observer.DedupBusy)
}

func testRenewedLate(t *testing.T, s Subject) {
	s.claim(t, "k", "a", s.Unit)
	s.Pass(2 * s.Unit)
	s.want(t, "k", "a", observer.DedupClaimed)
	s.want(t, "k", "b", observer.DedupBusy)
}

func testDone(t *testing.T, s Subject) {
	s.want(t, "k", "a", observer.DedupClaimed)
	s.finish(t, lease, "k")
	s.want(t, "k", "a", observer.DedupDone)
	s.want(t, "k", "b", observer.DedupDone)
}

func testKeptFromCompletion(t *testing.T, s Subject) {
	s.claim(t, "k", "a", 4*s.Unit)
	s.Pass(3 * s.Unit)
	s.finish(t, 4*s.Unit, "k")
	s.Pass(2 * s.Unit)
	s.want(t, "k", "b", observer.DedupDone)
}

func testDoneUnclaimed(t *testing.T, s Subject) {
	s.finish(t, lease, "k")
	s.want(t, "k", "a", observer.DedupDone)
}

func testDoneLate(t *testing.T, s Subject) {
	s.claim(t, "k", "a", s.Unit)
	s.Pass(2 * s.Unit)
	s.want(t, "k", "b", observer.DedupClaimed)
	s.finish(t, lease, "k") // by a
	s.release(t, "k", "b")
	s.want(t, "k", "c", observer.DedupDone)
}

func testDoneTwice(t *testing.T, s Subject) {
	s.finish(t, lease, "k", "l")
	s.finish(t, s.Unit, "k", "l", "k")
	s.Pass(2 * s.Unit)
	s.want(t, "k", "a", observer.DedupDone)
	s.want(t, "l", "a", observer.DedupDone)
}

func testDoneMany(t *testing.T, s Subject) {
	s.finish(t, lease)
	keys := manyKeys("m", 1500)
	s.finish(t, lease, append(keys, keys[:10]...)...)
	for _, key := range keys {
		s.want(t, key, "a", observer.DedupDone)
	}
}

// Whoever knows that the owner is gone can release its claim.
func testBusyNamesOwner(t *testing.T, s Subject) {
	for i, owner := range []string{"a", "7@11:nats/c/s/12#host/1/ABC#2", "o", "d", " \x00\xff'\"{}日本 ", strings.Repeat("a", 500)} {
		key := "k" + strings.Repeat("k", i)
		s.want(t, key, owner, observer.DedupClaimed)
		answer := s.claim(t, key, "other", lease)
		if answer.Standing != observer.DedupBusy || answer.Owner != owner {
			t.Fatalf("claim of %q is %s with %q, want %q", key, answer.Standing, answer.Owner, owner)
		}
		s.release(t, key, answer.Owner)
		s.want(t, key, "other", observer.DedupClaimed)
		s.want(t, key, owner, observer.DedupBusy)
	}
}

func testReleased(t *testing.T, s Subject) {
	s.want(t, "k", "a", observer.DedupClaimed)
	s.release(t, "k", "a")
	s.want(t, "k", "b", observer.DedupClaimed)
}

func testReleasedByStranger(t *testing.T, s Subject) {
	s.release(t, "k", "b")
	s.want(t, "k", "a", observer.DedupClaimed)
	s.release(t, "k", "b")
	s.want(t, "k", "b", observer.DedupBusy)
}

func testReleaseOfDone(t *testing.T, s Subject) {
	s.want(t, "k", "a", observer.DedupClaimed)
	s.finish(t, lease, "k")
	s.release(t, "k", "a")
	s.release(t, "k", "")
	s.want(t, "k", "b", observer.DedupDone)
}

func testKeys(t *testing.T, s Subject) {
	keys := []string{
		"", "k", "K", "k ", "k\x00", "k\xff", "日本/zażółć/'\"; --/\u202e/3", "{k}", "k*", "%s",
		strings.Repeat("k", 1000), strings.Repeat("k", 999) + "l",
	}
	for _, key := range keys {
		s.want(t, key, "a\x00\xff", observer.DedupClaimed)
	}
	for i, key := range keys {
		if i%2 == 0 {
			s.finish(t, lease, key)
		}
	}
	for i, key := range keys {
		s.want(t, key, "b", map[bool]observer.DedupStanding{true: observer.DedupDone, false: observer.DedupBusy}[i%2 == 0])
	}
}

func testAgain(t *testing.T, s Subject) {
	if s.Again == nil {
		t.Skip("it is one process only")
	}
	other := s
	other.Store = s.Again(t)
	s.want(t, "k", "a", observer.DedupClaimed)
	other.want(t, "k", "b", observer.DedupBusy)
	s.finish(t, lease, "k")
	other.want(t, "k", "b", observer.DedupDone)
}

func testContext(t *testing.T, s Subject) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Store.ClaimDedup(ended, claimOf("k", "a"), lease); err == nil {
		t.Error("claimed after the end")
	}
	if err := s.Store.FinishDedup(ended, observer.DedupMark{Key: "k", Keep: lease}); err == nil {
		t.Error("finished after the end")
	}
	s.want(t, "k", "b", observer.DedupClaimed)
	if err := s.Store.ReleaseDedup(ended, claimOf("k", "b")); err == nil {
		t.Error("released after the end")
	}
	s.want(t, "k", "c", observer.DedupBusy)
}
