package capture

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

// The marks stand for expressions that are only known when the function runs. No
// name and no text can hold such a character: JSON and SQL text would have it
// escaped, and a name with it is refused.
const (
	// unrecordedMost bounds the notes of statements without a log to write to.
	unrecordedMost = 1000

	imageMark  = "\x01"
	keyMark    = "\x02"
	tenantMark = "\x03"
	intoMark   = "\x04"
	valuesMark = "\x05"
)

// degraded records a statement whose own SQL failed, with SQL for the table and
// the log as they are now: first value by value, then without images.
func (t *table) degraded() string {
	return "\t" + whichTable + t.unrecorded() + `
	v_metadata := v_metadata || jsonb_build_object('capture_error', v_reason);
	v_key := ` + t.currentKey() + `;
	v_tenant_of := ` + t.currentTenant() + `;
	v_image := ` + t.currentImage() + `;
` + t.currentRow() + `
	FOR v_attempt IN 1..2 LOOP
		BEGIN
			IF TG_OP = 'TRUNCATE' THEN
				EXECUTE ` + assemble(t.skeleton("")) + ` USING ` + using() + `;
			ELSIF TG_OP = 'INSERT' THEN
				EXECUTE ` + assemble(t.skeleton(marked().plain("INSERT"))) + ` USING ` + using() + `;
			ELSIF TG_OP = 'UPDATE' THEN
				EXECUTE ` + assemble(t.skeleton(marked().paired(t.unique, t.spec.BeforeImage))) + ` USING ` + using() + `;
			ELSE
				EXECUTE ` + assemble(t.skeleton(marked().plain("DELETE"))) + ` USING ` + using() + `;
			END IF;
			RETURN NULL;
		EXCEPTION WHEN OTHERS THEN
			IF v_attempt = 2 OR SQLSTATE ~ '^(40|57|55P03)' THEN
				RAISE;
			END IF;
			v_image := 'NULL::jsonb';
		END;
	END LOOP;
	RETURN NULL;`
}

func marked() expressions {
	return expressions{image: imageMark, key: keyMark + ` COLLATE "C"`, tenant: tenantMark + ` COLLATE "C"`}
}

// skeleton is an INSERT with marks.
func (t *table) skeleton(source string) string {
	return t.insert([]logged{{intoMark, valuesMark}}, source)
}

// assemble is the expression in PL/pgSQL that puts the pieces of a skeleton
// together.
func assemble(skeleton string) string {
	names := map[rune]string{'\x01': "v_image", '\x02': "v_key", '\x03': "v_tenant_of", '\x04': "v_into", '\x05': "v_values"}
	var parts []string
	from := 0
	for i, r := range skeleton {
		if name, ok := names[r]; ok {
			parts = append(parts, changelog.QuoteText(skeleton[from:i]), name)
			from = i + 1
		}
	}
	return strings.Join(append(parts, changelog.QuoteText(skeleton[from:])), " || ")
}

// unrecorded lets a change go through when there is no log to write to.
func (t *table) unrecorded() string {
	return fmt.Sprintf(`	IF NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %[1]s AND c.relname = %[2]s
			AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'INSERT')) THEN
		BEGIN
			INSERT INTO %[3]s (table_name, operation, reason) SELECT v_table, TG_OP, v_reason
			WHERE (SELECT count(*) FROM (SELECT FROM %[3]s LIMIT %[4]d) u) < %[4]d;
		EXCEPTION WHEN OTHERS THEN
			v_reason := v_reason || '; ' || SQLERRM;
		END;
		RAISE WARNING 'fraiseql: %% on %% was not recorded: %%', TG_OP, v_table, v_reason;
		RETURN NULL;
	END IF;`, changelog.QuoteText(t.opts.Log.Schema), changelog.QuoteText(t.opts.Log.Table), changelog.QuoteName(t.opts.Schema, changelog.UnrecordedTable), unrecordedMost)
}

// root is the table whose columns the spec numbers.
const root = "coalesce(pg_partition_root(TG_RELID)::oid, TG_RELID)"

// current looks for a column as it is called now: by its name, or else by its
// number, if what has that number is not a column that was known by another name.
// A dump that is restored numbers columns anew.
func (t *table) current(name, format string) string {
	known := make([]string, len(t.spec.All))
	for i, c := range t.spec.All {
		known[i] = changelog.QuoteText(c)
	}
	return fmt.Sprintf(`coalesce((SELECT format(%[1]s, a.attname) FROM pg_attribute a
		WHERE a.attrelid = %[2]s AND a.attnum > 0 AND NOT a.attisdropped
			AND (a.attname = %[3]s OR a.attnum = %[4]d AND NOT a.attname::text = ANY (ARRAY[%[5]s]::text[]))
		ORDER BY a.attname = %[3]s DESC LIMIT 1)`, changelog.QuoteText(format), root, changelog.QuoteText(name), t.numbers([]string{name})[0], strings.Join(known, ", "))
}

// value is the helper that turns anything into jsonb, as format() writes it.
func (t *table) value() string {
	return strings.ReplaceAll(changelog.QuoteName(t.opts.Schema, changelog.ValueFunction), "%", "%%") + "(s.%I)"
}

func (t *table) currentKey() string {
	if len(t.spec.Key) == 1 {
		return t.current(t.spec.Key[0], "("+t.value()+" #>> '{}')") + ", 'NULL::text')"
	}
	parts := make([]string, len(t.spec.Key))
	for i, c := range t.spec.Key {
		parts[i] = t.current(c, "coalesce("+t.value()+"::text, 'null')") + `, '''null''')`
	}
	return `'(''['' || ' || ` + strings.Join(parts, ` || ' || '','' || ' || `) + ` || ' || '']'')'`
}

func (t *table) currentTenant() string {
	if t.spec.Tenant == "" {
		return "'NULL::text'"
	}
	return t.current(t.spec.Tenant, "("+t.value()+" #>> '{}')") + ", 'NULL::text')"
}

// currentImage builds an image of the columns the table has now.
func (t *table) currentImage() string {
	only := "true"
	if len(t.spec.Columns) > 0 {
		var list []string
		for _, c := range t.captured() {
			list = append(list, changelog.QuoteText(c))
		}
		only = "a.attname::text = ANY (ARRAY[" + strings.Join(list, ", ") + "]::text[])"
	}
	return fmt.Sprintf(`coalesce((SELECT string_agg('jsonb_build_object(' || c.pairs || ')', ' || ' ORDER BY c.chunk) FROM (
			SELECT b.place / 40 AS chunk, string_agg(format(%s, b.attname), ', ' ORDER BY b.place) AS pairs FROM (
				SELECT a.attname, row_number() OVER (ORDER BY a.attnum) - 1 AS place FROM pg_attribute a
				WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped AND %s) b
			GROUP BY 1) c), 'NULL::jsonb')`, changelog.QuoteText("%1$L, "+strings.ReplaceAll(t.value(), "%I", "%1$I")), only)
}

// currentRow chooses the columns that the log has now.
func (t *table) currentRow() string {
	list := func(row []logged) string {
		pairs := make([]string, len(row))
		for i, l := range row {
			pairs[i] = "(" + strconv.Itoa(i) + ", " + changelog.QuoteText(l.column) + ", " + changelog.QuoteText(l.value) + ")"
		}
		return strings.Join(pairs, ",\n\t\t\t")
	}
	choose := `		SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.place), string_agg(c.value, ', ' ORDER BY c.place) INTO v_into, v_values
		FROM (VALUES %s) AS c (place, name, value)
		WHERE EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(%s) AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped);
`
	log := changelog.QuoteText(t.opts.Log.String())
	return "\tIF TG_OP = 'TRUNCATE' THEN\n" + fmt.Sprintf(choose, list(t.truncated(parameters())), log) +
		"\tELSE\n" + fmt.Sprintf(choose, list(t.row(expressions{}, parameters())), log) + "\tEND IF;"
}
