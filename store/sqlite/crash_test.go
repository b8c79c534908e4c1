package sqlite_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/store/sqlite"
)

// childMode names the variable that turns the test binary into another process
// on the file in childPath.
const (
	childMode = "OBSERVER_STORE_TEST_CHILD"
	childPath = "OBSERVER_STORE_TEST_PATH"
)

func TestMain(m *testing.M) {
	children := map[string]func(context.Context, *sqlite.Store, *acks) error{
		"write": childWrite, "open": childOpen, "claim": childClaim, "lanes": childLanes,
	}
	child, ok := children[os.Getenv(childMode)]
	if !ok {
		if sqlite.RaceDetector { // the histories of storetest; a flag of the command line wins
			if err := flag.Set("rapid.checks", "8"); err != nil {
				log.Fatal(err)
			}
		}
		m.Run()
		return
	}
	ctx := context.Background()
	s, err := sqlite.Open(ctx, sqlite.Config{Path: os.Getenv(childPath), BusyTimeout: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(child(ctx, s, &acks{}), s.Close()); err != nil {
		log.Fatal(err)
	}
}

// acks prints what the store acknowledged, a line at a time.
type acks struct{ mu sync.Mutex }

func (a *acks) print(words ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Println(words...)
}

const childWriters = 4

// childWrite stores for ever: it is killed.
func childWrite(ctx context.Context, s *sqlite.Store, a *acks) error {
	errs := make(chan error)
	for w := range childWriters {
		go func() {
			for n := 1; ; n++ {
				if err := childStep(ctx, s, a, fmt.Sprintf("%d-%d", os.Getpid(), w), n); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

func childStep(ctx context.Context, s *sqlite.Store, a *acks, writer string, n int) error {
	d := deadLetter(fmt.Sprintf("%s-%d", writer, n))
	if _, err := s.InsertDeliveries(ctx, d); err != nil {
		return err
	}
	a.print("stored", d.Key)
	if n%3 == 0 {
		d, err := s.ClaimDelivery(ctx, d.Key, writer, time.Hour)
		if err != nil {
			return err
		}
		a.print("finishing", d.Key) // from here on it may be done
		d.Succeed()
		if err := s.UpdateDelivery(ctx, d, writer); err != nil {
			return err
		}
		a.print("finished", d.Key)
	}
	cp := observer.Checkpoint{Position: observer.Position(strconv.Itoa(n)), Done: []string{d.Key}}
	if err := s.SaveCheckpoint(ctx, writer, cp); err != nil {
		return err
	}
	a.print("saved", writer, n)
	return nil
}

func childOpen(ctx context.Context, s *sqlite.Store, _ *acks) error {
	return s.SaveCheckpoint(ctx, strconv.Itoa(os.Getpid()), observer.Checkpoint{})
}

// claimable is how many deliveries the claiming processes share.
const claimable = 150

func childClaim(ctx context.Context, s *sqlite.Store, a *acks) error {
	for range claimable { // more than there is to claim
		ds, err := s.ClaimDue(ctx, observer.Claim{Owner: strconv.Itoa(os.Getpid()), Lease: time.Hour, Limit: 3})
		if err != nil || len(ds) == 0 {
			return err
		}
		for _, d := range ds {
			a.print("claimed", d.Key)
		}
	}
	return nil
}

func startChild(t *testing.T, mode, path string) (cmd *exec.Cmd, stdout io.Reader) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode, childPath+"="+path)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stdout
}

// oracle is what a process was told before it was killed.
type oracle struct {
	stored, finishing, finished map[string]bool
	saved                       map[string]int
}

func newOracle() *oracle {
	return &oracle{stored: map[string]bool{}, finishing: map[string]bool{}, finished: map[string]bool{}, saved: map[string]int{}}
}

func (o *oracle) read(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	switch words[0] {
	case "stored":
		o.stored[words[1]] = true
	case "finishing":
		o.finishing[words[1]] = true
	case "finished":
		o.finished[words[1]] = true
	case "saved":
		n, err := strconv.Atoi(words[2])
		if err != nil {
			t.Fatal(err)
		}
		o.saved[words[1]] = n
	default:
		t.Fatalf("unexpected line %q", line)
	}
}

// Everything that was acknowledged before a kill at any moment is there
// afterwards, in the state that was acknowledged or a later one.
func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	o := newOracle()
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		killChildIn(t, "write", path, o, rand.IntN(400))
		o.check(t, path)
	}
	if len(o.finished) == 0 || len(o.saved) == 0 {
		t.Errorf("got %d finished and %d saved: the test tests nothing", len(o.finished), len(o.saved))
	}
	wantSound(t, path)
}

func (o *oracle) check(t *testing.T, path string) {
	t.Helper()
	s := opened(t, sqlite.Config{Path: path})
	ds, err := s.Deliveries(t.Context(), observer.DeliveryFilter{})
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]observer.State{}
	for _, d := range ds {
		states[d.Key] = d.State
		if len(d.Attempts) != 1 || d.Event == nil || d.State == observer.Dead && d.Error != "status 400" {
			t.Errorf("%s is not whole: %+v", d.Key, d)
		}
	}
	o.checkDeliveries(t, states)
	o.checkCheckpoints(t, s)
	o.checkCounts(t, s, states)
}

func (o *oracle) checkDeliveries(t *testing.T, states map[string]observer.State) {
	t.Helper()
	for key := range o.stored {
		if state := states[key]; state == "" || state == observer.Done && !o.finishing[key] {
			t.Errorf("%s was stored and is %q", key, state)
		}
	}
	for key := range o.finished {
		if states[key] != observer.Done {
			t.Errorf("%s was finished and is %q", key, states[key])
		}
	}
}

func (o *oracle) checkCounts(t *testing.T, s *sqlite.Store, states map[string]observer.State) {
	t.Helper()
	want := map[observer.State]int{}
	for _, state := range states {
		want[state]++
	}
	stats, err := s.DeliveryStats(t.Context())
	if diff := cmp.Diff(want, stats.States); err != nil || diff != "" {
		t.Errorf("counts: error %v (-want +got):\n%s", err, diff)
	}
}

func (o *oracle) checkCheckpoints(t *testing.T, s *sqlite.Store) {
	t.Helper()
	for name, n := range o.saved {
		cp, err := s.LoadCheckpoint(t.Context(), name)
		if got, _ := strconv.Atoi(string(cp.Position)); err != nil || got < n {
			t.Errorf("checkpoint %s: got %q and error %v, want at least %d", name, cp.Position, err, n)
		}
	}
}

func TestManyProcessesOpenOneNewFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	const n = 6
	var cmds []*exec.Cmd
	for range n {
		cmd, _ := startChild(t, "open", path)
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	}
	wantOpenedBy(t, path, n)
}

func TestManyProcessesClaimEachDeliveryOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s := opened(t, sqlite.Config{Path: path})
	var want []string
	for n := range claimable {
		d := deadLetter(fmt.Sprintf("%04d", n))
		d.State = observer.Scheduled
		insert(t, s, d)
		want = append(want, "claimed "+d.Key)
	}
	var mu sync.Mutex
	var got []string
	var wg sync.WaitGroup
	for range 3 {
		cmd, stdout := startChild(t, "claim", path)
		wg.Go(func() {
			text, err := io.ReadAll(stdout)
			if err := errors.Join(err, cmd.Wait()); err != nil {
				t.Errorf("child: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, strings.Split(strings.TrimSpace(string(text)), "\n")...)
		})
	}
	wg.Wait()
	slices.Sort(got)
	if !slices.Equal(slices.DeleteFunc(got, func(line string) bool { return line == "" }), want) {
		t.Errorf("got %d claims, want each of %d deliveries once:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
}
