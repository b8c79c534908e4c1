package topology

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// bridgeLeases begin the names of the leases by which bridges say how they publish
// a database. Nobody competes for them: each has the owner in its name.
const bridgeLeases = "bridge/"

// rememberCrashed is for how long a bridge counts that ended without a word: so long
// nobody else publishes all once more because it was written otherwise, and longer
// it need not hold up who changed the name.
const rememberCrashed = time.Hour

// isGone reports whether a bridge counts no more: one that ended has released its
// lease.
func isGone(bridge observer.Lease) bool {
	return bridge.Holder == "" || bridge.Remaining < -rememberCrashed
}

// bridgeSettings are what the bridges of a database have to agree on.
type bridgeSettings struct {
	transportName, consumer string
	reconciles              bool
}

func (t *Topology) settings() bridgeSettings {
	cfg := t.layers.cfg.Transport
	return bridgeSettings{transportName: cfg.Bridge.TransportName, consumer: cfg.NATS.ConsumerName, reconciles: t.reconciles}
}

func (s bridgeSettings) lease(database, owner string) string {
	return bridgeLeases + database + "/" + url.Values{
		"transport_name": {s.transportName}, "consumer_name": {s.consumer}, "reconcile": {strconv.FormatBool(s.reconciles)}, "owner": {owner},
	}.Encode()
}

// settingsOf reads the name of such a lease.
func settingsOf(name string) (s bridgeSettings, owner string) {
	values, err := url.ParseQuery(name[strings.LastIndexByte(name, '/')+1:])
	if err != nil {
		return s, ""
	}
	return bridgeSettings{
		transportName: values.Get("transport_name"), consumer: values.Get("consumer_name"), reconciles: values.Get("reconcile") == "true",
	}, values.Get("owner")
}

// neighbours are what else works on the same state and does not fit.
type neighbours struct {
	topology *Topology
	// owner is this life of this process.
	owner string

	mu    sync.Mutex
	ours  map[string]observer.Lease // by database
	about map[string]bool           // what was warned of
}

func newNeighbours(t *Topology) *neighbours {
	return &neighbours{topology: t, owner: t.Owner + "/" + rand.Text()[:8], ours: map[string]observer.Lease{}, about: map[string]bool{}}
}

// announce says how this process publishes a database, and gives an error when it
// must not, because another bridge that came first, and did not end since, keeps its
// place under another name: each of the two would publish everything.
func (n *neighbours) announce(ctx context.Context, database string) error {
	t, mine := n.topology, n.topology.settings()
	l, err := t.Store.AcquireLease(ctx, mine.lease(database, n.owner), n.owner, t.layers.cfg.Leases.TTL)
	if err != nil {
		return fmt.Errorf("tell the other bridges of database %s: %w", database, err)
	}
	n.mu.Lock()
	n.ours[database] = l
	n.mu.Unlock()
	all, err := t.Store.Leases(ctx, bridgeLeases+database+"/")
	if err != nil {
		return fmt.Errorf("look for other bridges of database %s: %w", database, err)
	}
	for _, other := range all {
		theirs, owner := settingsOf(other.Name)
		if owner == "" || owner == n.owner || isGone(other) {
			continue
		}
		if theirs.transportName != mine.transportName && other.Term < l.Term {
			return fmt.Errorf("%w: the bridge %s publishes database %s with transport_name = %q, and this one has %q, so that all of it would be published twice: "+
				"write the same [transport.bridge] transport_name for both; if all is to be published again, stop the other one first, and when it crashed wait %s",
				errPublishedTwice, owner, database, theirs.transportName, mine.transportName, rememberCrashed)
		}
		if other.Running() {
			n.compare(database, owner, mine, theirs)
		}
	}
	return nil
}

var errPublishedTwice = errors.New("it is not published by this process")

func (n *neighbours) compare(database, owner string, mine, theirs bridgeSettings) {
	log := n.topology.logger
	if theirs.reconciles != mine.reconciles && n.first("reconcile/"+database+"/"+owner) {
		log.Warn("another bridge of this database has another [transport.bridge] reconcile: whenever it changes hands between the two, "+
			"what was published before is not verified any more; write the same for both", "database", database, "other", owner, "reconcile", mine.reconciles)
	}
	if theirs.consumer != mine.consumer && n.first("consumer/"+database+"/"+owner) {
		log.Warn("another bridge of this database names another [transport.nats] consumer_name: only the group of the one that "+
			"reads the database is verified; write the same for both", "database", database, "other", owner, "consumer_name", theirs.consumer)
	}
}

// groups are the other consumers that read the stream under this state, or did a
// short while ago.
func (n *neighbours) groups(ctx context.Context) ([]string, error) {
	cfg := n.topology.stream.cfg
	all, err := n.topology.Store.Leases(ctx, "nats/")
	var names []string
	for _, l := range all {
		name, ok := LeasedPartition(l)
		if !ok {
			continue
		}
		parts := strings.Split(name, "/")
		if _, err := strconv.Atoi(parts[2]); err == nil && parts[1] == cfg.StreamName && parts[0] != cfg.ConsumerName && !slices.Contains(names, parts[0]) {
			names = append(names, parts[0])
		}
	}
	return names, err
}

// watch keeps what this process says of itself, and warns of what does not fit,
// until ctx ends.
func (n *neighbours) watch(ctx context.Context) {
	t := n.topology
	for more := true; more; more = backoff.Wait(ctx, nil, t.layers.cfg.Leases.TTL/3) {
		for _, db := range t.Databases {
			switch err := n.announce(ctx, db.Config.Name); {
			case errors.Is(err, errPublishedTwice):
				if n.first("transport_name/" + db.Config.Name) {
					t.logger.Warn("two bridges of a database have different names for their place in its log", "database", db.Config.Name, "error", err)
				}
			case err != nil && ctx.Err() == nil:
				t.logger.Debug("the other bridges cannot be compared with", "error", err)
			}
		}
		names, err := n.groups(ctx)
		if err != nil || !t.reconciles {
			continue
		}
		n.warnOf(names)
	}
	n.leave(context.WithoutCancel(ctx))
}

// warnOf warns of groups that are not verified.
func (n *neighbours) warnOf(groups []string) {
	cfg := n.topology.stream.cfg
	for _, name := range groups {
		if n.first("group/" + name) {
			n.topology.logger.Warn("another group of workers reads the stream under this state, and only the group that consumer_name of this bridge names is verified: "+
				"what the stream loses is published again when that one did not handle it, and not when only the other did not; "+
				"give the other group a stream, a bridge and a state of its own where that matters", "stream", cfg.StreamName, "verified", cfg.ConsumerName, "not_verified", name)
		}
	}
}

// leave takes back what was said.
func (n *neighbours) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, l := range n.ours {
		errs = append(errs, n.topology.Store.ReleaseLease(ctx, l))
	}
	if err := errors.Join(errs...); err != nil {
		n.topology.logger.Debug("what was told the other bridges runs out by itself", "error", err)
	}
}

// first reports whether something was not warned of yet.
func (n *neighbours) first(about string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.about[about]
	n.about[about] = true
	return !before
}
