package sqlite

import (
	"database/sql"
	"regexp"
	"strings"
	"testing"

	observer "github.com/fraiseql/observer"
)

// scan is a step that reads a whole table, or a whole index that lacks columns.
var wholeTable = regexp.MustCompile(`SCAN (tb_delivery|tb_band|d)( USING INDEX.*)?$`)

// What is stored must not slow down claims, lanes, updates and pruning: each
// finds its rows in an index, in the order in which it wants them.
func TestStatementsUseTheIndexes(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for query, want := range map[string][]string{
		selectBands:      {"idx_band_due"},
		selectDueBands:   {"idx_band_due (due_at<?)"},
		dueInBand:        {"COVERING INDEX idx_delivery_band (queue=? AND endpoint=? AND rank=? AND due_at<?)"},
		firstFree:        {"COVERING INDEX idx_delivery_band (queue=? AND endpoint=? AND rank=?"},
		firstInBand:      {"COVERING INDEX idx_delivery_band (queue=? AND endpoint=? AND rank=?"},
		runningDue:       {"idx_delivery_leased (lease_until>?)"},
		raiseBand:        {"PRIMARY KEY (queue=? AND endpoint=? AND rank=?)"},
		removeBand:       {"PRIMARY KEY (queue=? AND endpoint=? AND rank=?)"},
		claimChosen:      {"INTEGER PRIMARY KEY (rowid=?)"},
		claimDelivery:    {"(key=?)"},
		findDelivery:     {"(key=?)"},
		existsDelivery:   {"(key=?)"},
		extendLease:      {"(key=?)"},
		updateDelivery:   {"(key=?)"},
		repeats:          {"(key=?)"},
		abandoned:        {"idx_delivery_redriven"},
		unblock:          {"idx_delivery_redriven (lane=?)"},
		requeueDelivery:  {"INTEGER PRIMARY KEY (rowid=?)"},
		removeDelivery:   {"INTEGER PRIMARY KEY (rowid=?)"},
		queueDelivery:    {"INTEGER PRIMARY KEY (rowid=?)"},
		laneBlocked:      {"COVERING INDEX idx_delivery_blocking (lane=?)", "COVERING INDEX idx_delivery_parked_event (lane=?)"},
		placeBlocked:     {"COVERING INDEX idx_delivery_blocking (lane=?)", "COVERING INDEX idx_delivery_parked (lane=? AND pk_delivery<?)"},
		releaseLane:      {"idx_delivery_parked_event (lane=? AND event_id=?)", "COVERING INDEX idx_delivery_parked (lane=?)", "COVERING INDEX idx_delivery_blocking (lane=?)"},
		stuckLanes:       {"COVERING INDEX idx_delivery_parked (lane>?)", "COVERING INDEX idx_delivery_blocking (lane=?)"},
		pruneDone:        {"idx_delivery_done (updated_at<?)"},
		pruneDead:        {"idx_delivery_buried (updated_at<?)"},
		selectKeys:       {"COVERING INDEX sqlite_autoindex_tb_delivery_1"},
		countRunning:     {"idx_delivery_leased (lease_until>?)"},
		countDue:         {"COVERING INDEX idx_delivery_band"},
		countParked:      {"COVERING INDEX idx_delivery_parked_event"},
		countDead:        {"idx_delivery_dead"},
		countErrors:      {"idx_delivery_dead", "INTEGER PRIMARY KEY (rowid=?)"},
		selectBlocking:   {"idx_delivery_blocking", "idx_delivery_parked"},
		selectEndpoints:  {"sqlite_autoindex_tb_endpoint_1"},
		selectDelivery:   {"(key=?)"},
		insertDelivery:   {"PRIMARY KEY (state=?)"},
		saveEndpoint:     nil,
		removeEndpoint:   {"(name=?)"},
		isEndpointThere:  {"(name=?)"},
		selectCheckpoint: {"(name=?)"},
	} {
		wantPlan(t, s, query, want)
	}
}

// mayRead are the statements that count or list all there is of something, and
// the temporary tables that they sort or group it in.
func mayRead(query, step string) bool {
	switch query {
	case countDue, countParked, countDead, countErrors, selectBlocking, selectBands, abandoned:
		return true
	case countRunning:
		return strings.Contains(step, "TEMP B-TREE") // of what runs
	}
	return false
}

func wantPlan(t *testing.T, s *Store, query string, want []string) {
	t.Helper()
	plan := explain(t, s, query)
	for _, part := range want {
		if !strings.Contains(plan, part) {
			t.Errorf("%s\n%s\nwant %s", query, plan, part)
		}
	}
	for step := range strings.Lines(plan) {
		step = strings.TrimSpace(step)
		if (wholeTable.MatchString(step) || strings.Contains(step, "TEMP B-TREE")) && !mayRead(query, step) {
			t.Errorf("%s\n%s\nwant no %q", query, plan, step)
		}
	}
}

// A page of the list is read off an index that has its order, or found in one of
// few rows and sorted.
func TestListsUseTheIndexes(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for want, f := range map[string]observer.DeliveryFilter{
		"SCAN tb_delivery USING INDEX idx_delivery_listing":              {},
		"SCAN tb_delivery USING INDEX idx_delivery_dead":                 {State: observer.Dead},
		"USING INDEX idx_delivery_leased (lease_until>?)":                {State: observer.Running},
		"USING INDEX idx_delivery_band":                                  {State: observer.Scheduled},
		"USING INDEX idx_delivery_parked":                                {State: observer.Parked},
		"SEARCH tb_delivery USING INDEX sqlite_autoindex_tb_delivery_1 ": {EventID: "e"},
	} {
		query, _ := listing(&f, 0)
		if plan := explain(t, s, query); !strings.Contains(plan, want) {
			t.Errorf("%+v: %s\n%s\nwant %s", f, query, plan, want)
		}
	}
}

func explain(t *testing.T, s *Store, query string) string {
	t.Helper()
	args := make([]any, 40)
	rows, err := s.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	var plan strings.Builder
	err = eachRow(rows, func(rows *sql.Rows) error {
		var id, parent, unused int
		var detail string
		err := rows.Scan(&id, &parent, &unused, &detail)
		plan.WriteString(detail + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan.String()
}
