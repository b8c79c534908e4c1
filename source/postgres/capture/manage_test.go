package capture_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE "Upper" (id int PRIMARY KEY); CREATE TABLE nokey (a int); CREATE VIEW v AS SELECT 1;
		CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE one PARTITION OF part DEFAULT; CREATE SEQUENCE s`)
	tests := map[string]struct {
		capture capture.Capture
		want    string
		missing bool
	}{
		"no entity":     {capture.Capture{Table: "t"}, "entity type is missing", false},
		"no table":      {capture.Capture{Table: "orders", Entity: "E"}, "there is no table orders", true},
		"another case":  {capture.Capture{Table: "T.UPPER", Entity: "E"}, `but there is public."Upper"`, true},
		"no column":     {capture.Capture{Table: "t", Entity: "E", Key: []string{"nr"}}, `no column "nr" (it has id)`, true},
		"no tenant":     {capture.Capture{Table: "t", Entity: "E", Tenant: "org"}, `no column "org"`, true},
		"no key":        {capture.Capture{Table: "nokey", Entity: "E"}, "--key", false},
		"view":          {capture.Capture{Table: "v", Entity: "E"}, "is a view", false},
		"sequence":      {capture.Capture{Table: "s", Entity: "E"}, "is not a table", false},
		"system":        {capture.Capture{Table: "pg_class", Entity: "E"}, "PostgreSQL's own", false},
		"partition":     {capture.Capture{Table: "one", Entity: "E"}, "is a partition: capture part", false},
		"bad log":       {capture.Capture{Table: "t", Entity: "E", Options: changelog.Options{Log: changelog.Name{Schema: "a\x02b"}}}, "control character", false},
		"unclosed name": {capture.Capture{Table: `"t`, Entity: "E"}, "there is no table", true},
	}
	for name, tt := range tests {
		_, err := capture.Add(t.Context(), url, tt.capture)
		if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, observer.ErrNotFound) != tt.missing {
			t.Errorf("%s: %v", name, err)
		}
	}
	if testenv.Value[bool](t, conn, "SELECT to_regnamespace('fraiseql_observer') IS NOT NULL OR to_regnamespace('core') IS NOT NULL") {
		t.Error("a refusal left something behind")
	}
	add(t, url, of("t"))
	for _, own := range []string{"core.tb_entity_change_log", "fraiseql_observer.tb_setting"} {
		if _, err := capture.Add(t.Context(), url, capture.Capture{Table: own, Entity: "E"}); err == nil || !strings.Contains(err.Error(), "would never end") {
			t.Errorf("%s: %v", own, err)
		}
	}
}

func TestAddSaysWhatItUses(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, `CREATE TABLE "Orders" ("Id" int, region text, PRIMARY KEY (region, "Id"))`)
	for _, name := range []string{"Orders", `"Orders"`, "public.Orders", `Public."Orders"`} {
		got := add(t, url, capture.Capture{Table: name, Tenant: "REGION", Columns: []string{"id"}})
		want := capture.Capture{Table: `public."Orders"`, Entity: "E", Key: []string{"region", "Id"}, Tenant: "region", Columns: []string{"Id"}, Options: changelog.Options{}.OrDefault()}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if n := testenv.Value[int](t, conn, "SELECT count(*) FROM pg_proc WHERE prorettype = 'trigger'::regtype AND proname LIKE 'capture%'"); n != 1 {
		t.Errorf("%d functions after adding again", n)
	}
	list, err := capture.List(t.Context(), url, changelog.Options{})
	if err != nil || len(list) != 1 || list[0].Tenant != "region" || len(list[0].Drift) != 0 {
		t.Errorf("list %+v, %v", list, err)
	}
}

// Replacing a capture under fire loses no change and records none twice.
func TestAddReplacesAtOnce(t *testing.T) {
	t.Parallel()
	conn, url := captured(t, plain, of("t"))
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			for range 5 {
				c := of("t")
				c.Entity, c.BeforeImage = "E", i == 0
				if _, err := capture.Add(t.Context(), url, c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 300 {
		testenv.Exec(t, conn, "INSERT INTO t VALUES ($1)", i)
	}
	wg.Wait()
	if got := testenv.Value[string](t, conn, "SELECT concat_ws(' ', count(*), count(DISTINCT entity_key), count(extra_metadata ->> 'capture_error')) FROM core.tb_entity_change_log"); got != "300 300 0" {
		t.Errorf("events, entities, errors: %s", got)
	}
}

func TestAddWaitsForNobodyForLong(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, plain)
	testenv.Exec(t, conn, "BEGIN")
	testenv.Exec(t, conn, "INSERT INTO t VALUES (1)")
	_, err := capture.Add(t.Context(), url, capture.Capture{Table: "t", Entity: "E"})
	if err == nil || !strings.Contains(err.Error(), "try again") {
		t.Fatalf("add beside a writer: %v", err)
	}
	testenv.Exec(t, conn, "COMMIT")
	if d := driftOf(t, url); d != nil {
		t.Errorf("captures %s", d)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ before, table string }{
		"table":             {"", "t"},
		"dropped table":     {"DROP TABLE t", "t"},
		"dropped, in full":  {"DROP TABLE t", "public.T"},
		"made anew":         {"DROP TABLE t; " + plain, "t"},
		"renamed":           {"ALTER TABLE t RENAME TO u", "u"},
		"after a lost log":  {"DROP SCHEMA core CASCADE", "t"},
		"triggers disabled": {"ALTER TABLE t DISABLE TRIGGER ALL", `"t"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, url := captured(t, plain, of("t"))
			testenv.Exec(t, conn, tt.before)
			if err := capture.Remove(t.Context(), url, tt.table, changelog.Options{}); err != nil {
				t.Fatal(err)
			}
			const left = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'fraiseql_capture%') + (SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%fraiseql-observer:%')"
			if n := testenv.Value[int](t, conn, left); n != 0 {
				t.Errorf("%d triggers and functions are left", n)
			}
			if err := capture.Remove(t.Context(), url, tt.table, changelog.Options{}); !errors.Is(err, observer.ErrNotFound) {
				t.Errorf("removed again: %v", err)
			}
			if d := driftOf(t, url); d != nil {
				t.Errorf("captures %s", d)
			}
		})
	}
}

func TestAddAll(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, `CREATE TABLE tb_orders (id int PRIMARY KEY, tenant_id uuid); CREATE TABLE "order" (id int PRIMARY KEY); CREATE TABLE nokey (a int);
		CREATE TABLE categories (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE c1 PARTITION OF categories DEFAULT; CREATE VIEW v AS SELECT 1; CREATE TABLE mine (id int PRIMARY KEY);
		CREATE SCHEMA other; CREATE TABLE other.t (id int PRIMARY KEY)`)
	add(t, url, capture.Capture{Table: "mine", Entity: "Special", BeforeImage: true})
	all := capture.All{Tenant: "tenant_id"}
	for range 2 {
		added, skipped, err := capture.AddAll(t.Context(), url, all)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, c := range added {
			lines = append(lines, strings.TrimSpace(c.Table+" "+c.Entity+" "+c.Tenant))
		}
		for _, s := range skipped {
			lines = append(lines, s.Table+": "+s.Reason)
		}
		want := []string{
			"public.categories Category", "public.mine Special", `public."order" Order`,
			"public.nokey: it has no primary key", `public.tb_orders: its entity type would be Order, as that of public."order": add it by itself`,
		}
		if d := cmp.Diff(want, lines); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	testenv.Exec(t, conn, "INSERT INTO categories VALUES (1); INSERT INTO mine VALUES (2)")
	wantLog(t, conn, `INSERT Category 1 {"id": 1} -`, `INSERT Special 2 {"id": 2} -`)
	added, _, err := capture.AddAll(t.Context(), url, capture.All{Schema: "other"})
	if err != nil || len(added) != 1 || added[0].Table != "other.t" {
		t.Errorf("other schema: %v, %v", added, err)
	}
	if _, _, err := capture.AddAll(t.Context(), url, capture.All{Schema: "none"}); err == nil {
		t.Error("a schema that is not there was captured")
	}
}

func TestEntityName(t *testing.T) {
	t.Parallel()
	for table, want := range map[string]string{
		"orders": "Order", "tb_order_lines": "OrderLine", "categories": "Category", "boxes": "Box", "addresses": "Address", "status": "Status",
		"news-items": "NewsItem", "Users": "User", "address": "Address", "analysis": "Analysis", "ties": "Tie", "été": "Été", "s": "S", "--": "--", "tb_2024_sales": "2024Sale", "orderLines": "OrderLine", "houses": "House",
	} {
		if got := capture.EntityName(table); got != want {
			t.Errorf("%s: %s, want %s", table, got, want)
		}
	}
}

// A log whose policies would refuse what the triggers write is found out before
// they are there.
func TestAddChecksTheLog(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, plain)
	testenv.Exec(t, conn, changelog.Script(changelog.Options{}))
	testenv.Exec(t, conn, "ALTER TABLE core.tb_entity_change_log ADD CHECK (object_type <> 'E')")
	if _, err := capture.Add(t.Context(), url, capture.Capture{Table: "t", Entity: "E"}); err == nil || !strings.Contains(err.Error(), "refuses an event") {
		t.Errorf("add: %v", err)
	}
	add(t, url, capture.Capture{Table: "t", Entity: "F"})
	if n := testenv.Value[int](t, conn, "SELECT count(*) FROM core.tb_entity_change_log"); n != 0 {
		t.Errorf("%d events of the trial stayed", n)
	}
}
