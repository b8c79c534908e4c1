package capture

import (
	"fmt"
	"strings"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

// The names of the transition tables. Rows are always read through the alias s.
const (
	newRows = "fraiseql_new"
	oldRows = "fraiseql_old"
)

// few is the number of rows up to which a statement is computed before it is
// written, and above which it is written in a subtransaction.
const few = 100

// expressions are what an event is made of, in SQL over the alias s.
type expressions struct {
	image, key, tenant string
	// keyKind and tenantKind are "uuid" or "text" where the type of the column
	// says so, and "" where each value has to be looked at.
	keyKind, tenantKind string
}

// sides is a list of rows of a transition table, with the given expressions.
func (x expressions) side(rows string) string {
	return fmt.Sprintf("SELECT %s AS key, %s AS image, %s AS tenant FROM %s s", x.key, x.image, x.tenant, rows)
}

// plain is the source of events for rows that were all inserted, updated or
// deleted.
func (x expressions) plain(verb string) string {
	rows, data, before := newRows, "x.image", "NULL::jsonb"
	if verb == "DELETE" {
		rows, data, before = oldRows, before, data
	}
	return fmt.Sprintf("SELECT '%s' AS verb, x.key, %s AS data, %s AS before, x.tenant FROM (%s) x", verb, data, before, x.side(rows))
}

// paired is the source of events for an UPDATE, which is compared by key. A full
// join is never a nested loop, so a plan made for one row serves a million. Keys
// that are not unique are told apart by how often they have come so far.
func (x expressions) paired(unique, before bool) string {
	side := func(rows string) string {
		numbered := fmt.Sprintf("SELECT row_number() OVER () AS place, x.* FROM (%s) x", x.side(rows))
		if unique {
			return numbered
		}
		return fmt.Sprintf("SELECT y.*, coalesce('=' || y.key, '') AS match, row_number() OVER (PARTITION BY y.key ORDER BY y.place) AS nth FROM (%s) y", numbered)
	}
	on, was := "n.key = o.key", "CASE WHEN n.place IS NULL THEN o.image END"
	if !unique {
		on = "n.match = o.match AND n.nth = o.nth"
	}
	if before {
		was = "o.image"
	}
	return fmt.Sprintf(`SELECT CASE WHEN n.place IS NULL THEN 'DELETE' WHEN o.place IS NULL THEN 'INSERT' ELSE 'UPDATE' END AS verb,
	CASE WHEN n.place IS NULL THEN o.key ELSE n.key END AS key, n.image AS data, %s AS before,
	CASE WHEN n.place IS NULL THEN o.tenant ELSE n.tenant END AS tenant
FROM (%s) n
FULL JOIN (%s) o ON %s
ORDER BY n.place NULLS FIRST, o.place`, was, side(newRows), side(oldRows), on)
}

// envelope are the parts of an event that a whole statement shares: variables of
// the function, or parameters.
type envelope struct {
	tenant, tenantID, actor, actingFor, version, traceID, traceContext, metadata, table string
}

func variables() envelope {
	return envelope{"v_tenant", "v_tenant_id", "v_actor", "v_acting_for", "v_version", "v_trace_id", "v_trace_context", "v_metadata", "v_table"}
}

func parameters() envelope {
	return envelope{"$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9"}
}

// using hands the variables over as parameters.
func using() string {
	v := variables()
	return strings.Join([]string{v.tenant, v.tenantID, v.actor, v.actingFor, v.version, v.traceID, v.traceContext, v.metadata, v.table}, ", ")
}

// logged is a column of the log and its value, over the source e.
type logged struct{ column, value string }

const (
	// exactUUID is the form in which PostgreSQL writes a UUID: any other text is
	// kept as it is, so that an id arrives as the table has it.
	exactUUID = `'^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'`
	// anyUUID also takes capitals: a tenant is compared, not echoed.
	anyUUID = `'^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'`
)

// row is what is written for each event.
func (t *table) row(x expressions, v envelope) []logged {
	all := []logged{{"object_type", changelog.QuoteText(t.spec.Entity)}, {"modification_type", "e.verb"}}
	switch x.keyKind {
	case "uuid":
		all = append(all, logged{"object_id", "e.key::uuid"})
	case "text":
		all = append(all, logged{"entity_key", "e.key"})
	default:
		all = append(all, logged{"object_id", "CASE WHEN e.key ~ " + exactUUID + " THEN e.key::uuid END"},
			logged{"entity_key", "CASE WHEN e.key ~ " + exactUUID + " THEN NULL ELSE e.key END"})
	}
	all = append(all, logged{"object_data", "e.data"}, logged{"object_data_before", "e.before"})
	if t.spec.Tenant == "" {
		all = append(all, logged{"tenant_id", v.tenantID}, logged{"tenant_key", v.tenant})
	} else {
		all = append(all, t.tenantOf(x, v)...)
	}
	return append(all, shared(v)...)
}

// tenantOf takes the tenant from the row, and from the session where the row has
// none.
func (t *table) tenantOf(x expressions, v envelope) []logged {
	if x.tenantKind == "uuid" {
		return []logged{
			{"tenant_id", "coalesce(e.tenant::uuid, " + v.tenantID + ")"},
			{"tenant_key", "CASE WHEN e.tenant IS NULL THEN " + v.tenant + " END"},
		}
	}
	return []logged{
		{"tenant_id", "CASE WHEN e.tenant ~ " + anyUUID + " THEN e.tenant::uuid WHEN e.tenant IS NULL THEN " + v.tenantID + " END"},
		{"tenant_key", "CASE WHEN e.tenant ~ " + anyUUID + " THEN NULL WHEN e.tenant IS NULL THEN " + v.tenant + " ELSE e.tenant END"},
	}
}

func shared(v envelope) []logged {
	return []logged{
		{"actor_type", v.actor}, {"acting_for", v.actingFor}, {"schema_version", v.version},
		{"trace_id", v.traceID}, {"trace_context", v.traceContext}, {"extra_metadata", v.metadata},
	}
}

// truncated is the row for a TRUNCATE, which has no source.
func (t *table) truncated(v envelope) []logged {
	all := []logged{
		{"object_type", changelog.QuoteText(t.spec.Entity)}, {"modification_type", "'CUSTOM'"},
		{"object_data", "jsonb_build_object('operation', 'TRUNCATE', 'table', " + v.table + ")"},
		{"tenant_id", v.tenantID}, {"tenant_key", v.tenant},
	}
	return append(all, shared(v)...)
}

// insert writes the events of a source to the log.
func (t *table) insert(row []logged, source string) string {
	columns, values := make([]string, len(row)), make([]string, len(row))
	for i, l := range row {
		columns[i], values[i] = l.column, l.value
	}
	from := ""
	if source != "" {
		from = "\nFROM (" + source + ") e"
	}
	return fmt.Sprintf("INSERT INTO %s (%s)\nSELECT %s%s", t.opts.Log, strings.Join(columns, ", "), strings.Join(values, ", "), from)
}

// static are the expressions that go into the function as they are. They name
// columns only where that is needed: an image of the whole row follows a table
// that changes.
func (t *table) static() expressions {
	x := expressions{image: "to_jsonb(s.*)", tenant: "NULL::text"}
	if len(t.spec.Columns) > 0 {
		x.image = object(t.captured())
	}
	x.key, x.keyKind = t.keyText()
	if t.spec.Tenant != "" {
		x.tenant, x.tenantKind = t.columnText(t.spec.Tenant)
	}
	return x
}

// captured are the columns of a limited image: those asked for, and the key.
func (t *table) captured() (list []string) {
	wanted := map[string]bool{}
	for _, c := range append(t.spec.Columns, t.spec.Key...) {
		wanted[c] = true
	}
	for _, c := range t.spec.All {
		if wanted[c] {
			list = append(list, c)
		}
	}
	return list
}

// object builds an image of some columns; a function has at most 100 arguments.
func object(columns []string) string {
	var parts []string
	for len(columns) > 0 {
		n := min(len(columns), 40)
		pairs := make([]string, n)
		for i, c := range columns[:n] {
			pairs[i] = changelog.QuoteText(c) + ", s." + changelog.QuoteName(c)
		}
		parts = append(parts, "jsonb_build_object("+strings.Join(pairs, ", ")+")")
		columns = columns[n:]
	}
	return strings.Join(parts, " || ")
}

// keyText is the entity id: the text of a single column, a JSON array of several.
func (t *table) keyText() (expression, kind string) {
	if len(t.spec.Key) == 1 {
		return t.columnText(t.spec.Key[0])
	}
	parts := make([]string, len(t.spec.Key))
	for i, c := range t.spec.Key {
		parts[i] = "coalesce(to_jsonb(s." + changelog.QuoteName(c) + ")::text, 'null')"
	}
	return `('[' || ` + strings.Join(parts, ` || ',' || `) + ` || ']') COLLATE "C"`, "text"
}

// columnText is the text of a column. It goes by way of jsonb where the text of
// the type depends on settings.
func (t *table) columnText(name string) (expression, kind string) {
	column := "s." + changelog.QuoteName(name)
	switch t.kindOf(name) {
	case "uuid":
		return column + `::text COLLATE "C"`, "uuid"
	case "int2", "int4", "int8":
		return column + `::text COLLATE "C"`, "text"
	case "text", "varchar":
		return column + `::text COLLATE "C"`, ""
	}
	return "(to_jsonb(" + column + `) #>> '{}') COLLATE "C"`, ""
}
