package outbound

import (
	"net/http"
	"testing"
	"time"
)

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	tests := []struct {
		value string
		want  time.Duration
		ok    bool
	}{
		{"1", time.Second, true},
		{"120", 2 * time.Minute, true},
		{" 7 ", 7 * time.Second, true},
		{"007", 7 * time.Second, true},
		{"86400", 24 * time.Hour, true},
		{"86401", 24 * time.Hour, true},
		{"9223372036854775807", 24 * time.Hour, true},
		{"99999999999999999999999", 24 * time.Hour, true},
		{in(90 * time.Second), 90 * time.Second, true},
		{in(48 * time.Hour), 24 * time.Hour, true},
		{"Sunday, 01-Mar-26 12:01:00 GMT", time.Minute, true}, // RFC 850
		{"Sun Mar  1 12:01:00 2026", time.Minute, true},       // asctime
		{"", 0, false},
		{"0", 0, false},
		{"000", 0, false},
		{"-1", 0, false},
		{"+5", 0, false},
		{"1.5", 0, false},
		{"1e3", 0, false},
		{"0x10", 0, false},
		{"1s", 0, false},
		{"٣", 0, false},
		{"soon", 0, false},
		{in(0), 0, false},
		{in(-time.Minute), 0, false},
		{"Sun, 99 Mar 2026 12:00:00 GMT", 0, false},
	}
	for _, tt := range tests {
		got, ok := ParseRetryAfter(tt.value, now)
		if got != tt.want || ok != tt.ok {
			t.Errorf("ParseRetryAfter(%q) = %v, %t; want %v, %t", tt.value, got, ok, tt.want, tt.ok)
		}
	}
}

func TestRetryAfterUsesTheReceiversClock(t *testing.T) {
	t.Parallel()
	theirs := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	h := http.Header{}
	h.Set("Date", theirs.UTC().Format(http.TimeFormat))
	h.Set("Retry-After", theirs.Add(time.Minute).UTC().Format(http.TimeFormat))
	if got, ok := retryAfter(h); got != time.Minute || !ok {
		t.Errorf("retryAfter = %v, %t; want 1m", got, ok)
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "120", "-1", "Sun, 01 Mar 2026 12:01:00 GMT", "99999999999999999999"} {
		f.Add(s)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		wait, ok := ParseRetryAfter(value, now)
		if ok != (wait > 0) || wait < 0 || wait > maxRetryAfter {
			t.Errorf("ParseRetryAfter(%q) = %v, %t", value, wait, ok)
		}
	})
}
