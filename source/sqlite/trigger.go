package sqlite

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// The triggers run in the application's own SQLite, which may be old or have
// settings of its own. So they use only functions that every SQLite since 3.9
// has, none that an untrusted schema may not call, and no function with many
// arguments.

const (
	capturedSource   = "fallback_trigger"
	capturedMetadata = `{"cdc_source":"` + capturedSource + `"}`

	specOpen, specClose = "/* fraiseql-observer: ", " */"

	// mostValue is the length from which a value is left out of the images:
	// its hexadecimal or escaped form might exceed what SQLite allows a text,
	// and that error would abort the application's statement.
	mostValue = 16 << 20

	newID = `lower(hex(randomblob(4))) || '-' || lower(hex(randomblob(2))) || '-4' || substr(lower(hex(randomblob(2))), 2) || '-' || ` +
		`substr('89ab', 1 + (random() & 3), 1) || substr(lower(hex(randomblob(2))), 2) || '-' || lower(hex(randomblob(6)))`
	nowText = `strftime('%Y-%m-%dT%H:%M:%fZ', 'now')`
)

// triggers are the CREATE statements of a capture. A changed key is recorded as
// the DELETE of the old entity and then the INSERT of the new one, so that
// whoever follows one entity sees its end and its beginning.
func (t *table) triggers() []string {
	same := "(" + t.key("OLD") + ") IS (" + t.key("NEW") + ")"
	insert := t.record("INSERT", "NEW", t.image("NEW"), "NULL")
	update := t.record("UPDATE", "NEW", t.image("NEW"), t.image("OLD"))
	del := t.record("DELETE", "OLD", "NULL", t.image("OLD"))
	return []string{
		t.trigger("insert", "INSERT", "", insert),
		t.trigger("update", "UPDATE", "WHEN "+same, update),
		t.trigger("rekey", "UPDATE", "WHEN NOT ("+same+")", del+insert),
		t.trigger("delete", "DELETE", "", del),
	}
}

// trigger names carry the id of the installation: a renamed table keeps its
// triggers, so a name made only of the table's could be taken.
func (t *table) trigger(kind, event, when, body string) string {
	name := triggerPrefix + t.name + "_" + kind + "_" + t.spec.ID
	return fmt.Sprintf("CREATE TRIGGER %s AFTER %s ON %s FOR EACH ROW %s BEGIN %s\n%sEND",
		quoteName(name), event, quoteName(t.name), when, t.comment(), body)
}

// comment carries the spec. JSON lets a slash be escaped, so that no name ends
// the comment.
func (t *table) comment() string {
	text, err := json.Marshal(t.spec)
	if err != nil {
		text = nil // texts and lists of texts always encode
	}
	return specOpen + strings.ReplaceAll(string(text), "*/", `*\/`) + specClose
}

// record is the statement that writes one row of the log.
func (t *table) record(verb, row, data, before string) string {
	tenant := "NULL"
	if t.spec.Tenant != "" {
		tenant = valueText(row + "." + quoteName(t.spec.Tenant))
	}
	values := []string{
		newID, quoteText(t.spec.Entity), quoteText(verb), nowText,
		t.key(row), data, before, tenant, quoteText(capturedMetadata),
	}
	return "INSERT INTO " + logTable + " (id, object_type, modification_type, created_at, object_id, object_data, " +
		"object_data_before, tenant_id, extra_metadata) VALUES (\n" + strings.Join(values, ",\n") + ");\n"
}

// key is the expression for the entity id: the text of a single column, a JSON
// array of several.
func (t *table) key(row string) string {
	if t.rowid != "" {
		return "CAST(" + row + "." + t.rowid + " AS TEXT)"
	}
	if len(t.spec.Key) == 1 {
		return valueText(row + "." + quoteName(t.spec.Key[0]))
	}
	members := make([]string, len(t.spec.Key))
	for i, c := range t.spec.Key {
		members[i] = "(+" + row + "." + quoteName(c) + ")"
	}
	return "(SELECT '['||group_concat(" + valueJSON("column1") + ")||']' FROM (VALUES " + strings.Join(members, ",") + "))"
}

// image is the expression for a row as a JSON object: its columns as rows of a
// table, of which one expression makes the members. An expression for each
// column would be compiled with every statement of the application, and take
// ten times as long as the statement. The unary plus keeps the column from
// lending its name and its affinity to the table of members.
func (t *table) image(row string) string {
	members := make([]string, 0, len(t.spec.All))
	for _, c := range t.captured() {
		members = append(members, "("+quoteText(string(jsonText(c))+":")+",+"+row+"."+quoteName(c)+")")
	}
	return "(SELECT '{'||group_concat(column1||" + valueJSON("column2") + ")||'}' FROM (VALUES " + strings.Join(members, ",") + "))"
}

// valueJSON is the expression for a value as JSON text, by its storage class
// and not by the declared type. Joining with an empty text takes away the mark
// that the result of a JSON function carries, with which json_quote would take
// the text for JSON.
func valueJSON(v string) string {
	return strings.NewReplacer("$v", v, "$real", realText(v), "$most", strconv.Itoa(mostValue)).Replace(
		`CASE typeof($v) WHEN 'null' THEN 'null' WHEN 'integer' THEN CAST($v AS TEXT) WHEN 'real' THEN $real ` +
			`ELSE CASE WHEN length($v)>$most THEN '{"omitted_bytes":'||length(CAST($v AS BLOB))||'}' ` +
			`WHEN typeof($v)='text' THEN json_quote($v||'') ELSE '"\\x'||lower(hex($v))||'"' END END`)
}

// valueText is the expression for a value as plain text; NULL stays NULL.
func valueText(v string) string {
	return strings.NewReplacer("$v", v, "$real", realText(v)).Replace(
		`CASE typeof($v) WHEN 'blob' THEN '\x'||lower(hex($v)) WHEN 'real' THEN trim($real,'"') ELSE CAST($v AS TEXT) END`)
}

// realText prints a real with the fewest digits that read back as the same
// number. JSON has no infinity: it becomes a string.
func realText(v string) string {
	return strings.ReplaceAll(
		`CASE WHEN +$v=9e999 THEN '"Infinity"' WHEN +$v=-9e999 THEN '"-Infinity"' `+
			`WHEN CAST(printf('%!.15g',$v) AS REAL)=+$v THEN printf('%!.15g',$v) ELSE printf('%!.17g',$v) END`, "$v", v)
}
