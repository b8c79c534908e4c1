package outbound

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter caps what a receiver may ask for: a wrong header must not
// park a delivery for years.
const maxRetryAfter = 24 * time.Hour

// ParseRetryAfter reads the value of a Retry-After header: seconds, or a date
// that is compared with now. It gives the wait, at most a day, and false when
// there is none: no header, no valid one, or a moment that is not in the future.
func ParseRetryAfter(value string, now time.Time) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	if isDigits(value) {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter, true // beyond int64 is a number too
		}
		return time.Duration(seconds) * time.Second, seconds > 0
	}
	at, err := http.ParseTime(value)
	if err != nil || !at.After(now) {
		return 0, false
	}
	return min(at.Sub(now), maxRetryAfter), true
}

// Seconds is a wait that a receiver gives as a number, at most a day; false when
// it is none, or not in the future.
func Seconds(wait float64) (time.Duration, bool) {
	if !(wait > 0) { // also what is not a number
		return 0, false
	}
	return time.Duration(min(wait, maxRetryAfter.Seconds()) * float64(time.Second)), true
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// retryAfter reads the wait from an answer. A date is compared with the
// receiver's own clock when the answer carries it, so that clocks may differ.
func retryAfter(h http.Header) (time.Duration, bool) {
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return ParseRetryAfter(h.Get("Retry-After"), now)
}
