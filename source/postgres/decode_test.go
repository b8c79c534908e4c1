package postgres_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fraiseql/observer"
)

// A row that is no event comes as it is, with the reason, and the next one comes
// after it.
func TestMalformedRows(t *testing.T) {
	t.Parallel()
	const id = "11111111-2222-3333-4444-555555555555"
	const nullable = "ALTER TABLE " + logTable + " ALTER id DROP NOT NULL, ALTER object_type DROP NOT NULL, ALTER modification_type DROP NOT NULL, ALTER created_at DROP NOT NULL;"
	const asText = "ALTER TABLE " + logTable + " ALTER object_data TYPE text, ALTER object_data_before TYPE text, ALTER id TYPE text;"
	tests := map[string]struct{ prepare, columns, values, reason string }{
		"unknown verb":         {"", "modification_type", "'UPSERT'", "UPSERT"},
		"verb in small":        {"", "modification_type", "'insert '", "insert "},
		"no verb":              {nullable, "modification_type", "NULL", "modification_type is NULL"},
		"no id":                {nullable, "id", "NULL", "id is NULL"},
		"reserved id":          {asText, "id", "'malformed:x'", "reserved"},
		"no entity type":       {nullable, "object_type", "NULL", "object_type is empty"},
		"empty entity type":    {"", "object_type", "''", "object_type is empty"},
		"no entity":            {"", "entity_key", "NULL", "object_id is NULL on INSERT"},
		"no time":              {nullable, "created_at", "NULL", "created_at is NULL"},
		"endless time":         {"", "created_at", "'infinity'", "created_at is infinity"},
		"beginning of time":    {"", "created_at", "'-infinity'", "created_at is -infinity"},
		"time before Christ":   {"", "created_at", "'0044-03-15 BC'", "out of range"},
		"time too far":         {"", "created_at", "'12000-01-01'", "out of range"},
		"no JSON":              {asText, "object_data", "'{\"a\": NaN}'", "object_data is not JSON"},
		"no JSON before":       {asText, "object_data_before", "'x'", "object_data_before is not JSON"},
		"empty text":           {asText, "object_data", "''", "object_data is not JSON"},
		"several at a time":    {nullable, "id, created_at, object_type", "NULL, 'infinity', NULL", "id is NULL"},
		"a NaN in a numeric":   {"ALTER TABLE " + logTable + " ADD price numeric;", "id, price", "NULL, 'NaN'", "id is NULL"},
		"quotes and backslash": {"", "modification_type", `E'"\\\n'`, "\\"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			if strings.HasPrefix(tt.values, "NULL") {
				tt.prepare += nullable
			}
			if tt.prepare != "" {
				d.must(t, tt.prepare)
			}
			row := map[string]string{"id": "'" + id + "'", "object_type": "'Order'", "modification_type": "'INSERT'", "entity_key": "'7'"}
			columns, values := strings.Split(tt.columns, ", "), strings.Split(tt.values, ", ")
			for i := range columns {
				if len(columns) == 1 {
					values = []string{tt.values}
				}
				row[columns[i]] = values[i]
			}
			insertRow(t, d, row)
			insert(t, d, "next")
			checkMalformed(t, d, row, tt.reason)
		})
	}
}

func insertRow(t *testing.T, d *database, row map[string]string) {
	t.Helper()
	var columns, values []string
	for column, value := range row {
		columns, values = append(columns, column), append(values, value)
	}
	d.must(t, fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", logTable, strings.Join(columns, ", "), strings.Join(values, ", ")))
}

func checkMalformed(t *testing.T, d *database, row map[string]string, reason string) {
	t.Helper()
	src := d.source()
	r := follow(t, src, "")
	m := r.message(t)
	if m.Malformed == nil {
		t.Fatalf("got the event %+v", m.Event)
	}
	bad := m.Malformed
	if !strings.Contains(bad.Reason, reason) {
		t.Errorf("reason %q, want %q", bad.Reason, reason)
	}
	var raw map[string]any
	if err := json.Unmarshal(bad.Raw, &raw); err != nil || raw["pk_entity_change_log"] != 1.0 {
		t.Errorf("raw %s: %v", bad.Raw, err)
	}
	if row["id"] == "NULL" {
		if !strings.HasPrefix(bad.ID, "malformed:shop:1:") {
			t.Errorf("id %q", bad.ID)
		}
	} else if bad.ID != strings.Trim(row["id"], "'") {
		t.Errorf("id %q, want that of the row, %s", bad.ID, row["id"])
	}
	if row["entity_key"] == "'7'" && bad.EntityID != "7" {
		t.Errorf("entity %q", bad.EntityID)
	}
	again, err := src.Refetch(t.Context(), bad.Position)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bad, again.Malformed); diff != "" {
		t.Errorf("refetched (-want +got):\n%s", diff)
	}
	if got := r.next(t); got != "next" {
		t.Errorf("got %s after it", got)
	}
}

// Every column of the contract arrives where it belongs.
func TestEventOfARow(t *testing.T) {
	t.Parallel()
	const id, object, tenant, acting = "11111111-2222-3333-4444-555555555555", "a1111111-2222-3333-4444-555555555555",
		"b1111111-2222-3333-4444-555555555555", "c1111111-2222-3333-4444-555555555555"
	full := map[string]string{
		"id": "'" + id + "'", "object_type": "'Order'", "modification_type": "'UPDATE'", "created_at": "'2026-01-02 03:04:05.678901+02'",
		"object_id": "'" + object + "'", "object_data": `'{"a": 1.10, "b": "\u00e9"}'`, "object_data_before": `'{"a": null}'`, "duration_ms": "12",
		"tenant_id": "'" + tenant + "'", "fk_contact": "42", "seq": "99", "actor_type": "'ai_agent'", "acting_for": "'" + acting + "'",
		"schema_version": "'v2'", "extra_metadata": `'{"cdc_source": "fallback_trigger"}'`,
		"trace_context": `'{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1"}'`,
	}
	seq, duration := int64(99), int64(12)
	event := func() *observer.Event {
		return &observer.Event{
			ID: id, EntityType: "Order", EntityID: object, Operation: observer.Update, TenantID: tenant, UserID: "42", Seq: &seq, DurationMS: &duration,
			ActorType: "ai_agent", ActingFor: acting, SchemaVersion: "v2", CDCSource: "fallback_trigger",
			TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TraceState: "a=1",
			Timestamp: time.Date(2026, 1, 2, 1, 4, 5, 678901000, time.UTC),
			Data:      json.RawMessage(`{"a": 1.10, "b": "é"}`), Before: json.RawMessage(`{"a": null}`),
		}
	}
	tests := map[string]struct {
		prepare string
		change  map[string]string
		want    func(e *observer.Event)
	}{
		"full":                  {"", nil, func(*observer.Event) {}},
		"text":                  {"ALTER TABLE " + logTable + " ALTER object_data TYPE text, ALTER object_data_before TYPE text", nil, func(e *observer.Event) { e.Data = json.RawMessage(`{"a": 1.10, "b": "\u00e9"}`) }},
		"json":                  {"ALTER TABLE " + logTable + " ALTER object_data TYPE json, ALTER object_data_before TYPE json", nil, func(e *observer.Event) { e.Data = json.RawMessage(`{"a": 1.10, "b": "\u00e9"}`) }},
		"metadata as text":      {"ALTER TABLE " + logTable + " ALTER extra_metadata TYPE text", nil, func(e *observer.Event) { e.CDCSource = "" }},
		"trace as text":         {"ALTER TABLE " + logTable + " ALTER trace_context TYPE text", nil, func(e *observer.Event) { e.TraceParent, e.TraceState = "", "" }},
		"trace of another form": {"", map[string]string{"trace_context": `'["a"]'`}, func(e *observer.Event) { e.TraceParent, e.TraceState = "", "" }},
		"own keys":              {"", map[string]string{"entity_key": "'7'", "tenant_key": "'t'"}, func(e *observer.Event) { e.EntityID, e.TenantID = "7", "t" }},
		"an empty key is a key": {"", map[string]string{"entity_key": "''"}, func(e *observer.Event) { e.EntityID = "" }},
		"DELETE without image":  {"", map[string]string{"modification_type": "'DELETE'", "object_data": "NULL"}, func(e *observer.Event) { e.Operation, e.Data, e.Before = observer.Delete, e.Before, nil }},
		"JSON null":             {"", map[string]string{"object_data": "'null'", "object_data_before": "'null'"}, func(e *observer.Event) { e.Data, e.Before = nil, nil }},
		"NOOP without entity":   {"", map[string]string{"modification_type": "'NOOP'", "object_id": "NULL"}, func(e *observer.Event) { e.Operation, e.EntityID = observer.Custom, "" }},
		"the last year":         {"", map[string]string{"created_at": "'9999-12-31 23:59:59+00'"}, func(e *observer.Event) { e.Timestamp = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }},
		"odd settings": {"DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET datestyle = ''German''; ALTER DATABASE %1$I SET timezone = ''Asia/Tokyo''; ALTER DATABASE %1$I SET bytea_output = escape; ALTER DATABASE %1$I SET search_path = ''''; ALTER DATABASE %1$I SET default_transaction_isolation = ''serializable''; ALTER DATABASE %1$I SET default_transaction_read_only = on', current_database()); END$$",
			map[string]string{}, func(*observer.Event) {}},
		"a log without what can be missing": {`DROP TABLE ` + logTable + `; CREATE TABLE ` + logTable + ` (pk_entity_change_log bigserial PRIMARY KEY,
 id uuid NOT NULL, object_type varchar(20) NOT NULL, modification_type char(6) NOT NULL, created_at timestamptz NOT NULL, object_id uuid)`,
			map[string]string{"modification_type": "'UPDATE'"}, func(e *observer.Event) {
				e.Data, e.Before, e.Seq, e.DurationMS, e.TenantID, e.UserID = nil, nil, nil, nil, "", ""
				e.ActorType, e.ActingFor, e.SchemaVersion, e.CDCSource = "", "", "", ""
				e.TraceParent, e.TraceState = "", ""
			}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			if tt.prepare != "" {
				d.must(t, tt.prepare)
			}
			row := map[string]string{}
			for column, value := range full {
				if d.count(t, "SELECT count(*) FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2", logTable, column) == 1 {
					row[column] = value
				}
			}
			maps.Copy(row, tt.change)
			insertRow(t, d, row)
			want := event()
			tt.want(want)
			m := follow(t, d.source(), "").message(t)
			if m.Malformed != nil {
				t.Fatalf("malformed: %s", m.Malformed.Reason)
			}
			if diff := cmp.Diff(want, m.Event, cmpopts.IgnoreUnexported(observer.Event{})); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}
