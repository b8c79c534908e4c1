package observer

import (
	"context"
	"encoding/json"
)

// Position is a place in a source's log, in a form only that source reads. The
// zero Position is the beginning: everything the log still holds comes after
// it. Positions are stored in checkpoints, so their text outlives the process.
type Position string

// Message is one entry of a log. One of Event, Malformed and Passed is set; with
// none of them it says only how far the log was passed.
type Message struct {
	// Event is the entry.
	Event *Event
	// Malformed is the entry when it could not be understood.
	Malformed *Malformed
	// Passed is the id of an entry that is none of this reader's: nothing is done
	// about it, and the position moves over it.
	Passed string
	// Origin names the database that recorded the entry, where the log carries
	// those of several; else it is "".
	Origin string
	// Position resumes after this message.
	Position Position
}

// ID is the identity of the entry, whether or not it could be understood.
func (m *Message) ID() string {
	switch {
	case m.Malformed != nil:
		return m.Malformed.ID
	case m.Event != nil:
		return m.Event.ID
	}
	return m.Passed
}

// Malformed is an entry of a log that is not a valid event. It is kept as it
// was read, so that a person can see it, repair it and redrive it.
type Malformed struct {
	// ID names the entry: its event id where that is readable and unique, else a
	// name made from the source and the place in its log. It is stable over
	// re-reads.
	ID string
	// EntityType and EntityID are what could be read of the entity; possibly "".
	EntityType, EntityID string
	// Raw is the entry as read, as JSON.
	Raw json.RawMessage
	// Reason says what is wrong with it, for a person.
	Reason string
	// Source and Position find the entry in its log again. Position names the
	// entry itself, for [Refetcher], and is not one to resume from.
	Source   string
	Position Position
}

// Source is a log of committed changes. Implementations must pass sourcetest.
type Source interface {
	// Name is unique among the sources of a process and stable over restarts:
	// checkpoints are stored under it.
	Name() string
	// Open starts reading after a position. A source contains no reconnect
	// logic: whoever reads it opens it again from the last checkpoint. Open
	// may be called again only after the previous stream was closed.
	Open(ctx context.Context, after Position) (Stream, error)
}

// Stream is one reading of a log. It is used by one goroutine at a time.
type Stream interface {
	// Next blocks until there is a message or ctx ends. Messages of one entity
	// come in commit order. Any error ends the stream.
	Next(ctx context.Context) (Message, error)
	// Close releases what the stream holds. It may be called after an error and
	// more than once.
	Close(ctx context.Context) error
}

// Refetcher is implemented by sources that can read one entry again, to
// redrive a malformed entry after it was repaired in the log. An entry that is
// no longer in the log gives an error that matches [ErrNotFound].
type Refetcher interface {
	Refetch(ctx context.Context, at Position) (Message, error)
}
