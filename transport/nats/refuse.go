package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// refuse says why a stream that is there cannot become the one that is wanted.
func (s *Stream) refuse(info *jetstream.StreamInfo, now time.Time) error {
	ours, empty := info.Config.Metadata[formatKey] != "", info.State.Msgs == 0
	if !ours && !empty {
		return fmt.Errorf("stream %s was not made by fraiseql-observer and has %d messages: use another stream_name, or empty it (nats stream purge %s)",
			info.Config.Name, info.State.Msgs, info.Config.Name)
	}
	checks := []func(*jetstream.StreamInfo) error{s.refuseForeign, s.refuseNature, s.refuseSubjects}
	if ours {
		checks = append(checks, s.refuseMetadata)
	}
	if !empty {
		checks = append(checks, s.refuseDiscard, s.refuseLimits, func(info *jetstream.StreamInfo) error { return s.refuseAge(info, now) })
	}
	for _, check := range checks {
		if err := check(info); err != nil {
			return fmt.Errorf("stream %s: %w", info.Config.Name, err)
		}
	}
	return nil
}

// refuseForeign refuses streams that nobody can publish to, or that change what
// is published.
func (s *Stream) refuseForeign(info *jetstream.StreamInfo) error {
	const other = "use another stream_name"
	switch cfg := info.Config; {
	case cfg.Mirror != nil:
		return errors.New("it is a mirror, which nothing can be published to: " + other)
	case len(cfg.Sources) > 0:
		return errors.New("it has sources, whose messages have no place in the order: " + other)
	case cfg.Sealed:
		return errors.New("it is sealed, and takes no messages any more: " + other)
	case cfg.SubjectTransform != nil:
		return errors.New("it transforms subjects, which say what an event is: " + other)
	}
	return nil
}

func (s *Stream) refuseNature(info *jetstream.StreamInfo) error {
	cfg := info.Config
	const why = "that cannot be changed without losing messages: use another stream_name, or delete it when its messages are no longer needed"
	if cfg.Retention != jetstream.LimitsPolicy {
		return fmt.Errorf("its retention is %s, wanted is %s; %s", cfg.Retention, jetstream.LimitsPolicy, why)
	}
	if cfg.Storage != jetstream.FileStorage {
		return fmt.Errorf("its storage is %s, wanted is %s; %s", cfg.Storage, jetstream.FileStorage, why)
	}
	return nil
}

func (s *Stream) refuseDiscard(info *jetstream.StreamInfo) error {
	if info.Config.Discard == jetstream.DiscardNew {
		return nil
	}
	return fmt.Errorf("when it is full it discards old messages (%s), wanted is to refuse new ones (%s): somebody changed it, and messages may be lost; "+
		"see what is missing and then run: nats stream edit %s --discard new", info.Config.Discard, jetstream.DiscardNew, info.Config.Name)
}

func (s *Stream) refuseSubjects(info *jetstream.StreamInfo) error {
	for _, subject := range info.Config.Subjects {
		if subject != s.All() && !strings.HasPrefix(subject, s.prefix+".") {
			return fmt.Errorf("it has the subject %s, wanted is %s alone: use another stream_name, or set subject_prefix to what it has", subject, s.All())
		}
	}
	return nil
}

func (s *Stream) refuseMetadata(info *jetstream.StreamInfo) error {
	wanted := s.wanted(jetstream.StreamConfig{}).Metadata
	if format := info.Config.Metadata[formatKey]; format != wanted[formatKey] {
		return fmt.Errorf("it has format %s, this version knows format %s: use the newer version of fraiseql-observer that made it", format, wanted[formatKey])
	}
	if count := info.Config.Metadata[partitionsKey]; count != wanted[partitionsKey] {
		return fmt.Errorf("it has %s partitions, wanted are %s: their number cannot be changed, since entities would change their partition and so their order; "+
			"set partitions = %s, or use another stream_name", count, wanted[partitionsKey], count)
	}
	return nil
}

func (s *Stream) refuseLimits(info *jetstream.StreamInfo) error {
	const advice = "raise it, or wait until workers have read and time has removed what is there"
	if limit := s.cfg.MaxMsgs; limit >= 0 && info.State.Msgs > uint64(limit) {
		return fmt.Errorf("it has %d messages, and max_msgs = %d is less: %s", info.State.Msgs, limit, advice)
	}
	if limit := s.cfg.MaxBytes; limit >= 0 && info.State.Bytes > uint64(limit) {
		return fmt.Errorf("it has %d bytes, and max_bytes = %d is less: %s", info.State.Bytes, limit, advice)
	}
	return nil
}

// refuseAge allows what the present age would remove soon as well.
func (s *Stream) refuseAge(info *jetstream.StreamInfo, now time.Time) error {
	age := s.cfg.MaxAge
	if age == 0 || info.Config.MaxAge != 0 && info.Config.MaxAge <= age {
		return nil
	}
	if oldest := now.Sub(info.State.FirstTime); oldest > age {
		return fmt.Errorf("its oldest message is %s old, and a maximum age of %s (now %s) would remove it: keep the age until it is gone",
			oldest.Round(time.Second), age, orForever(info.Config.MaxAge))
	}
	return nil
}

func orForever(age time.Duration) string {
	if age == 0 {
		return "for ever"
	}
	return age.String()
}

// codeOverlap: another stream has subjects of this one.
const codeOverlap jetstream.ErrorCode = 10065

// overlap says which stream has the subjects already.
func (s *Stream) overlap(ctx context.Context, err error) error {
	answer, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || answer.ErrorCode != codeOverlap {
		return describe(s.cfg.Name, err)
	}
	var names []string
	lister := s.conn.js.ListStreams(ctx, jetstream.WithStreamListSubject(s.All()))
	for info := range lister.Info() {
		names = append(names, info.Config.Name)
	}
	return observer.Permanent(observer.ReasonPermanent, fmt.Errorf("stream %s cannot have the subjects %s: stream %s has them; "+
		"set stream_name to that one, or use another subject_prefix", s.cfg.Name, s.All(), strings.Join(names, ", ")))
}
