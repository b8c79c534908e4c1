package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fraiseql/observer"
)

// row is one row of the log as the queries select it.
type row struct {
	pk                                             int64
	sequenceFile                                   uint32
	id, objectType, modification                   pgtype.Text
	createdAt                                      pgtype.Timestamptz
	entityKey, objectID                            pgtype.Text
	data, before                                   []byte
	tenantKey, tenantID, contact                   pgtype.Text
	seq, duration                                  *int64
	actorType, actingFor, schemaVersion, cdcSource pgtype.Text
	traceParent, traceState                        pgtype.Text

	// checked: the server has made sure that the images are JSON.
	checked bool
}

func scanRow(from pgx.CollectableRow) (row, error) {
	var r row
	err := from.Scan(&r.pk, &r.sequenceFile, &r.id, &r.objectType, &r.modification, &r.createdAt, &r.entityKey, &r.objectID,
		&r.data, &r.before, &r.tenantKey, &r.tenantID, &r.contact, &r.seq, &r.duration,
		&r.actorType, &r.actingFor, &r.schemaVersion, &r.cdcSource, &r.traceParent, &r.traceState)
	return r, err
}

func (r *row) size() int { return len(r.data) + len(r.before) + 256 }

// malformedPrefix is no UUID, so that the name given to a row without an id is
// never the id of an event.
const malformedPrefix = "malformed:"

// message makes a message of a row, still without its position. A malformed one
// lacks what table.complete adds.
func (r *row) message(source string) observer.Message {
	e, err := r.event()
	if err == nil {
		return observer.Message{Event: e}
	}
	return observer.Message{Malformed: &observer.Malformed{
		ID: r.id.String, EntityType: r.objectType.String, EntityID: r.entityID(),
		Reason: err.Error(), Source: source, Position: rowPosition(r.pk),
	}}
}

// event gives the first reason why the row is not an event.
func (r *row) event() (*observer.Event, error) {
	e := &observer.Event{
		ID: r.id.String, EntityType: r.objectType.String, EntityID: r.entityID(),
		UserID: r.contact.String, Seq: r.seq, DurationMS: r.duration,
		ActorType: r.actorType.String, ActingFor: r.actingFor.String,
		SchemaVersion: r.schemaVersion.String, CDCSource: r.cdcSource.String,
		TraceParent: r.traceParent.String, TraceState: r.traceState.String,
	}
	if e.TenantID = r.tenantKey.String; e.TenantID == "" {
		e.TenantID = r.tenantID.String
	}
	if err := r.identify(e); err != nil {
		return nil, err
	}
	if err := r.images(e); err != nil {
		return nil, err
	}
	return e, r.time(e)
}

func (r *row) identify(e *observer.Event) (err error) {
	switch {
	case e.ID == "":
		return errors.New("id is NULL")
	case strings.HasPrefix(e.ID, malformedPrefix):
		return fmt.Errorf("id begins with the reserved word %q", malformedPrefix)
	case !r.modification.Valid:
		return errors.New("modification_type is NULL")
	}
	if e.Operation, err = observer.ParseOperation(r.modification.String); err != nil {
		return err
	}
	if e.EntityType == "" {
		return errors.New("object_type is empty")
	}
	if !r.entityKey.Valid && !r.objectID.Valid && e.Operation != observer.Custom {
		return fmt.Errorf("object_id is NULL on %s", e.Operation)
	}
	return nil
}

func (r *row) entityID() string {
	if r.entityKey.Valid {
		return r.entityKey.String
	}
	return r.objectID.String
}

func (r *row) images(e *observer.Event) error {
	data, err := r.image("object_data", r.data)
	if err != nil {
		return err
	}
	before, err := r.image("object_data_before", r.before)
	if err != nil {
		return err
	}
	switch e.Operation {
	case observer.Delete:
		if data == nil {
			data = before
		}
	case observer.Update, observer.Custom:
		e.Before = before
	case observer.Insert: // there was nothing before
	}
	e.Data = data
	return nil
}

// image checks that a column holds JSON where the server has not: a log made
// elsewhere may have text there.
func (r *row) image(column string, b []byte) (json.RawMessage, error) {
	switch {
	case b == nil || string(b) == "null":
		return nil, nil
	case !r.checked && !json.Valid(b):
		return nil, errors.New(column + " is not JSON")
	}
	return b, nil
}

// time refuses what cannot be written as RFC 3339.
func (r *row) time(e *observer.Event) error {
	t := r.createdAt
	switch {
	case !t.Valid:
		return errors.New("created_at is NULL")
	case t.InfinityModifier != pgtype.Finite:
		return fmt.Errorf("created_at is %s", t.InfinityModifier)
	case t.Time.UTC().Year() < 1 || t.Time.UTC().Year() > 9999:
		return fmt.Errorf("created_at is out of range: %d", t.Time.Year())
	}
	e.Timestamp = t.Time.UTC()
	return nil
}
