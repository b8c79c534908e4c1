package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/topology"
)

// streamStatus is about the stream between bridges and workers, as the workers of
// the configured consumer name read it.
type streamStatus struct {
	Name string `json:"name"`
	// Server is where it is, or embedded.
	Server     string             `json:"server"`
	Consumer   string             `json:"consumer"`
	Partitions []*partitionStatus `json:"partitions"`
	Problem    string             `json:"problem,omitempty"`
}

// partitionStatus is like a databaseStatus.
type partitionStatus struct {
	Partition  int               `json:"partition"`
	Reader     *readerStatus     `json:"reader"`
	Checkpoint *checkpointStatus `json:"checkpoint"`
	// Backlog is null when the server cannot be asked.
	Backlog *partitionBacklog `json:"backlog"`
}

type partitionBacklog struct {
	Events           int64      `json:"events"`
	OldestAt         *time.Time `json:"oldest_at"`
	OldestAgeSeconds *int64     `json:"oldest_age_seconds"`
}

// streamPatience is how long the server of the stream may take for its answers: a
// status is asked for when something is wrong.
const streamPatience = 5 * time.Second

func (s *status) readStream(ctx context.Context, cfg *config.Config, store observer.StateStore, readers map[string]*readerStatus) error {
	if !cfg.Transport.Distributed() {
		return nil
	}
	n := cfg.Transport.NATS
	st := &streamStatus{Name: n.StreamName, Server: topology.StreamPlace(n), Consumer: n.ConsumerName}
	s.Stream = st
	after := make([]observer.Position, n.Partitions)
	for i := range after {
		name := topology.PartitionName(n, i)
		cp, err := readCheckpoint(ctx, store, name, s.Now)
		if err != nil {
			return err
		}
		if cp != nil {
			after[i] = cp.Position
		}
		st.Partitions = append(st.Partitions, &partitionStatus{Partition: i, Reader: readers[name], Checkpoint: cp})
	}
	st.readBacklog(ctx, n, after, s.Now)
	return nil
}

// readBacklog leaves null what cannot be known.
func (st *streamStatus) readBacklog(ctx context.Context, n config.NATS, after []observer.Position, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, streamPatience)
	defer cancel()
	backlogs, err := topology.Backlogs(ctx, n, after)
	if errors.Is(err, topology.ErrUnreachable) {
		return // nothing is wrong
	}
	for i, b := range backlogs {
		if b.Err != nil {
			err = errors.Join(err, b.Err)
			continue
		}
		counted := &partitionBacklog{Events: b.Messages, OldestAt: when(b.Oldest)}
		if !b.Oldest.IsZero() {
			seconds := int64(max(0, now.Sub(b.Oldest)).Seconds())
			counted.OldestAgeSeconds = &seconds
		}
		st.Partitions[i].Backlog = counted
	}
	if err != nil {
		st.Problem, _, _ = strings.Cut(err.Error(), "\n") // the first says enough
	}
}

// stream prints the stream for people.
func (s statusText) stream(w io.Writer, st *streamStatus) {
	_, _ = fmt.Fprintf(w, "\nstream %s\n", printable(st.Name))
	t := newTable(w)
	t.row("  server:", st.Server)
	t.row("  consumer:", printable(st.Consumer))
	for _, reader := range st.readers() {
		t.row("  read by:", reader)
	}
	t.row("  checkpoint:", st.checkpoint())
	t.row("  backlog:", st.backlog())
	if st.Problem != "" {
		t.row("  problem:", st.Problem)
	}
	t.end()
	if s.detailed {
		st.table(w)
	}
}

// readers says which partitions each holder reads, and what nobody does.
func (st *streamStatus) readers() []string {
	const nobody = "nobody"
	by := map[string][]int{}
	var holders []string
	for _, p := range st.Partitions {
		holder := nobody
		if p.Reader != nil {
			holder = p.Reader.Holder
		}
		if by[holder] == nil && holder != nobody {
			holders = append(holders, holder)
		}
		by[holder] = append(by[holder], p.Partition)
	}
	slices.Sort(holders)
	if len(by[nobody]) > 0 {
		holders = append(holders, nobody)
	}
	for i, holder := range holders {
		holders[i] = fmt.Sprintf("%s: %s (%s)", holder, count(len(by[holder]), "partition"), ranges(by[holder]))
	}
	return holders
}

// ranges writes sorted numbers shortly: 0-3, 7.
func ranges(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		end := i
		for end+1 < len(numbers) && numbers[end+1] == numbers[end]+1 {
			end++
		}
		part := strconv.Itoa(numbers[i])
		if end > i {
			part += "-" + strconv.Itoa(numbers[end])
		}
		parts, i = append(parts, part), end+1
	}
	return strings.Join(parts, ", ")
}

// checkpoint is about the partition that was saved longest ago: idle ones save
// every few seconds, too.
func (st *streamStatus) checkpoint() string {
	var oldest *partitionStatus
	without := 0
	for _, p := range st.Partitions {
		switch {
		case p.Checkpoint == nil:
			without++
		case oldest == nil || p.Checkpoint.SavedAt.Before(oldest.Checkpoint.SavedAt):
			oldest = p
		}
	}
	if oldest == nil {
		return "none yet"
	}
	text := fmt.Sprintf("the oldest, of partition %d, %s", oldest.Partition, checkpointText(oldest.Checkpoint))
	if without > 0 {
		text += "; none yet of " + count(without, "partition")
	}
	return text
}

func (st *streamStatus) backlog() string {
	var events, oldest int64
	behind, unknown := 0, 0
	for _, p := range st.Partitions {
		switch {
		case p.Backlog == nil:
			unknown++
			continue
		case p.Backlog.Events > 0:
			behind++
		}
		events += p.Backlog.Events
		if p.Backlog.OldestAgeSeconds != nil {
			oldest = max(oldest, *p.Backlog.OldestAgeSeconds)
		}
	}
	if unknown == len(st.Partitions) {
		if st.Server == config.Embedded {
			return unknownValue + ": " + topology.ErrUnreachable.Error()
		}
		return unknownValue
	}
	text := count(int(events), "event")
	if behind > 0 {
		text += fmt.Sprintf(" in %s, the oldest from %s ago", count(behind, "partition"), seconds(oldest))
	}
	if unknown > 0 {
		text += "; " + unknownValue + " of " + count(unknown, "partition")
	}
	return text
}

// table prints each partition.
func (st *streamStatus) table(w io.Writer) {
	t := newTable(w)
	t.row("  partition", "read by", "checkpoint", "backlog", "position")
	for _, p := range st.Partitions {
		checkpoint, position, backlog := "none yet", "", unknownValue
		if p.Checkpoint != nil {
			checkpoint, position = seconds(p.Checkpoint.AgeSeconds)+" ago", string(p.Checkpoint.Position)
		}
		if p.Backlog != nil {
			backlog = count(int(p.Backlog.Events), "event")
		}
		t.row("  "+strconv.Itoa(p.Partition), readerText(p.Reader), checkpoint, backlog, position)
	}
	t.end()
}
