package capture

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

// A function holds the SQL for its table as static text, so that PostgreSQL plans
// it once per session. Everything but the transition tables is qualified by the
// alias s or e, and every variable begins with v_, so no name of a column can be
// taken for something else.

const (
	specOpen, specClose = "/* fraiseql-observer: ", " */"

	capturedMetadata = `{"cdc_source": "fallback_trigger"}`
)

// settings are what a function runs under. The text of a time, an interval, a
// float or a bytea depends on settings of the session: the same row must give the
// same key and the same image for everybody.
const settings = `SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, MDY'
SET IntervalStyle = 'postgres'
SET bytea_output = 'hex'
SET extra_float_digits = 1`

// definition is the CREATE FUNCTION of a capture.
func (t *table) definition() string {
	return fmt.Sprintf("CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql\n%s\nAS %s",
		t.function(), settings, changelog.QuoteBody(t.body()))
}

func (t *table) function() string { return changelog.QuoteName(t.opts.Schema, t.spec.function()) }

// body is the text of the function.
func (t *table) body() string {
	x := t.static()
	return strings.Join([]string{
		t.comment(), declarations, prologue,
		"\tBEGIN\n" +
			"\t\tIF TG_OP = 'INSERT' THEN\n" + t.single(x, "INSERT") + several(t.attempt(x, "INSERT")) +
			"\t\tELSIF TG_OP = 'UPDATE' THEN\n" + t.singleUpdate(x) + several(t.attemptUpdate(x)) +
			"\t\tELSIF TG_OP = 'DELETE' THEN\n" + t.single(x, "DELETE") + several(t.attempt(x, "DELETE")) +
			"\t\tELSE\n" + t.truncate() +
			"\t\tEND IF;\n" + caught + "\tEND;",
		"\tIF v_reason IS NULL AND NOT v_more THEN\n" + t.write(x, computed) +
			"\t\tRETURN NULL;\n\tELSIF v_reason IS NULL THEN\n" +
			"\t\tIF TG_OP = 'INSERT' THEN\n" + t.write(x, x.plain("INSERT")) +
			"\t\tELSIF TG_OP = 'UPDATE' THEN\n" + t.write(x, x.paired(t.unique, t.spec.BeforeImage)) +
			"\t\tELSIF TG_OP = 'DELETE' THEN\n" + t.write(x, x.plain("DELETE")) +
			"\t\tEND IF;\n\t\tRETURN NULL;\n\tEND IF;",
		t.degraded(), "END",
	}, "\n")
}

// comment carries the spec. JSON lets a slash be written by its number, so no
// name opens or closes a comment.
func (t *table) comment() string {
	text, err := json.Marshal(t.spec)
	if err != nil {
		text = nil // texts and lists of texts always encode
	}
	return specOpen + strings.ReplaceAll(string(text), "/", `\u002f`) + specClose
}

// declarations give few variables a value: each costs a statement of one row about
// as much as a column does.
const declarations = `DECLARE
	v_table text;
	v_tenant text;
	v_tenant_id uuid;
	v_actor text;
	v_acting text;
	v_acting_for uuid;
	v_version text;
	v_trace text;
	v_trace_id text;
	v_trace_context jsonb;
	v_metadata jsonb := '` + capturedMetadata + `'::jsonb;
	v_one_key text;
	v_one_data jsonb;
	v_one_before jsonb;
	v_one_tenant text;
	v_more boolean;
	v_rows bigint;
	v_parts bigint;
	v_log boolean;
	v_reason text;
	v_into text;
	v_values text;
	v_image text;
	v_key text;
	v_tenant_of text;`

// prologue reads the settings of the session, of which most have none. A value
// that does not fit its column is kept where any text fits.
const prologue = `BEGIN
	IF coalesce(current_setting('fraiseql.tenant_id', true), current_setting('fraiseql.actor_type', true), current_setting('fraiseql.acting_for', true),
			current_setting('fraiseql.schema_version', true), current_setting('fraiseql.trace_context', true), current_setting('fraiseql.cdc_mediated', true)) IS NOT NULL THEN
		IF lower(current_setting('fraiseql.cdc_mediated', true)) IN ('on', 'true', 'yes', '1') THEN
			RETURN NULL;
		END IF;
		v_tenant := nullif(current_setting('fraiseql.tenant_id', true), '');
		v_actor := nullif(current_setting('fraiseql.actor_type', true), '');
		v_acting := nullif(current_setting('fraiseql.acting_for', true), '');
		v_version := nullif(current_setting('fraiseql.schema_version', true), '');
		v_trace := nullif(current_setting('fraiseql.trace_context', true), '');
		IF v_tenant ~ ` + anyUUID + ` THEN
			v_tenant_id := v_tenant::uuid;
			v_tenant := NULL;
		END IF;
		IF v_acting ~ ` + anyUUID + ` THEN
			v_acting_for := v_acting::uuid;
		ELSIF v_acting IS NOT NULL THEN
			v_metadata := v_metadata || jsonb_build_object('acting_for', v_acting);
		END IF;
		IF v_trace IS NOT NULL THEN
			BEGIN
				v_trace_context := v_trace::jsonb;
				IF jsonb_typeof(v_trace_context) <> 'object' THEN
					v_trace_context := NULL;
				END IF;
				v_trace_id := substring(v_trace_context ->> 'traceparent' FROM '^[0-9a-f]{2}-([0-9a-f]{32})-');
			EXCEPTION WHEN OTHERS THEN
				v_trace_context := NULL;
			END;
		END IF;
	END IF;`

// whichTable names the table for people.
const whichTable = "v_table := TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME;\n"

// computed is the source of the event that single or singleUpdate has computed.
const computed = `SELECT TG_OP AS verb, v_one_key COLLATE "C" AS key, v_one_data AS data, v_one_before AS before, v_one_tenant COLLATE "C" AS tenant`

// caught ends a block. What is not about the statement goes on to the writer.
const caught = `	EXCEPTION WHEN OTHERS THEN
		IF SQLSTATE ~ '^(40|57|55P03)' THEN
			RAISE;
		END IF;
		v_reason := left(SQLERRM, 500);
`

// single computes the event of a statement of one row, as most are, and keeps it:
// it is only left to be written, outside the block, with nothing computed twice.
func (t *table) single(x expressions, verb string) string {
	rows, image := newRows, "v_one_data"
	if verb == "DELETE" {
		rows, image = oldRows, "v_one_before"
	}
	return t.first("n.key, n.image, n.tenant, "+moreThanOne(rows), "v_one_key, "+image+", v_one_tenant, v_more", "("+x.side(rows)+") n")
}

// singleUpdate leaves to the comparison of both sides a key that has changed, and
// a row that has no other side: a trigger of the partition it moved to refused it.
func (t *table) singleUpdate(x expressions) string {
	before := "NULL::jsonb"
	if t.spec.BeforeImage {
		before = "o.image"
	}
	return t.first("n.key, n.image, "+before+", n.tenant, n.key IS NULL OR n.key IS DISTINCT FROM o.key OR "+moreThanOne(oldRows),
		"v_one_key, v_one_data, v_one_before, v_one_tenant, v_more", "("+x.side(oldRows)+") o LEFT JOIN ("+x.side(newRows)+") n ON true")
}

func moreThanOne(rows string) string { return "EXISTS (SELECT FROM " + rows + " OFFSET 1)" }

// first reads the first row of a source and looks whether the log has the columns.
func (t *table) first(values, variables, source string) string {
	return fmt.Sprintf("\t\t\tSELECT %s, %s\n\t\t\tINTO %s, v_log FROM %s LIMIT 1;\n\t\t\tIF NOT FOUND THEN\n\t\t\t\tRETURN NULL;\n\t\t\tEND IF;\n",
		values, t.look(), variables, source)
}

// several runs what is for statements of more than one row.
func several(statements string) string {
	return "\t\t\tIF v_more THEN\n" + statements + "\t\t\tEND IF;\n"
}

// attempt computes the events of a few rows, to see that it can be done, and
// writes those of many.
func (t *table) attempt(x expressions, verb string) string {
	return t.probe("SELECT y.* FROM ("+x.plain(verb)+fmt.Sprintf(") y LIMIT %d", few+1)) +
		"\t\t\tIF v_rows > " + strconv.Itoa(few) + " THEN\n\t" + t.write(x, x.plain(verb)) + "\t\t\t\tRETURN NULL;\n\t\t\tEND IF;\n"
}

// attemptUpdate needs no comparison where no before-image is wanted and no key has
// changed.
func (t *table) attemptUpdate(x expressions) string {
	both := fmt.Sprintf("(%[1]s LIMIT %[3]d) UNION ALL (%[2]s LIMIT %[3]d)", x.side(newRows), x.side(oldRows), few+1)
	both = "SELECT y.key, y.image AS data, NULL::jsonb AS before, y.tenant FROM (" + both + ") y"
	paired := t.write(x, x.paired(t.unique, t.spec.BeforeImage))
	if !t.spec.BeforeImage {
		keys := func(rows string) string { return fmt.Sprintf("SELECT %s AS key FROM %s s", x.key, rows) }
		paired = "\t\t\tIF EXISTS (" + keys(oldRows) + " EXCEPT " + keys(newRows) + ") THEN\n" + paired +
			"\t\t\tELSE\n" + t.write(x, x.plain("UPDATE")) + "\t\t\tEND IF;\n"
	}
	return t.probe(both) + "\t\t\tIF v_rows > " + strconv.Itoa(2*few) + " THEN\n" + paired + "\t\t\t\tRETURN NULL;\n\t\t\tEND IF;\n"
}

// probe evaluates a source of more than one row.
func (t *table) probe(source string) string {
	return fmt.Sprintf(`			SELECT count(*), count(e.key) + count(e.data) + count(e.before) + count(e.tenant) INTO v_rows, v_parts
			FROM (%s) e;
`, source)
}

// look fails when the log lacks a column. It also locks the log, so that nobody
// changes it before the event is written.
func (t *table) look() string {
	var columns []string
	for _, l := range t.row(expressions{}, variables()) {
		columns = append(columns, "l."+l.column)
	}
	return fmt.Sprintf("EXISTS (SELECT %s FROM ONLY %s l WHERE false)", strings.Join(columns, ", "), t.opts.Log)
}

func (t *table) write(x expressions, source string) string {
	return "\t\t\t" + t.insert(t.row(x, variables()), source) + ";\n"
}

func (t *table) truncate() string {
	return "\t\t\t" + whichTable + "\t\t\t" + t.insert(t.truncated(variables()), "") + ";\n\t\t\tRETURN NULL;\n"
}
