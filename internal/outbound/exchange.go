package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/fraiseql/observer"
)

const (
	// answerBytes is how much of an answer is read. A connection whose answer
	// is longer is closed instead of reused.
	answerBytes = 64 << 10
	// answerTime bounds the reading of the body, once the status is known: the
	// outcome is decided, so a trickling body must not hold a lane.
	answerTime = 5 * time.Second
)

// Exchange sends req once and reads the answer. A 2xx status is success.
// Transient are 408, 425, 429 and 5xx, with the wait of Retry-After, and every
// failure to get an answer, a certificate that does not verify among them:
// certificates are mended without the sender. Permanent are 410, with
// [observer.ReasonGone], every other status, redirects included, and a refused
// address. A failure is marked [observer.OutcomeUnknown] when something of req
// was written and no answer came that could be read: also when the context
// ended it, and also when only a part was written, for a receiver may act before
// it has all of a body. No text that comes back contains a URL or what redactor
// knows.
func Exchange(client *http.Client, req *http.Request, redactor observer.Redactor) (observer.Result, error) {
	var sent handover
	ctx, cancel := context.WithCancel(sent.watch(req.Context()))
	defer cancel()
	where := req.Method + " " + Origin(req.URL)
	resp, err := client.Do(req.WithContext(ctx)) //nolint:gosec // Users choose where to send; the guard judges every address that is dialed.
	if err != nil {
		err = fmt.Errorf("%s: %w", where, withoutURL(err))
		if sent.written() {
			err = observer.OutcomeUnknown(err)
		}
		return observer.Result{}, Redact(redactor, err)
	}
	if resp.ContentLength != 0 {
		timer := time.AfterFunc(answerTime, cancel)
		defer timer.Stop()
	}
	// A body that breaks off changes nothing: the status is the answer.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, answerBytes))
	_ = resp.Body.Close()
	result := observer.Result{Status: resp.StatusCode, Detail: Detail(redactor, body)}
	return result, Redact(redactor, judge(where, resp))
}

func judge(where string, resp *http.Response) error {
	code := resp.StatusCode
	if code >= 200 && code < 300 {
		return nil
	}
	err := fmt.Errorf("%s: status %d %s", where, code, http.StatusText(code))
	switch {
	case code >= 300 && code < 400:
		return observer.Permanent(observer.ReasonPermanent, redirected(err, resp))
	case code == http.StatusGone:
		return observer.Permanent(observer.ReasonGone, err)
	case transient(code):
		if wait, ok := retryAfter(resp.Header); ok {
			return observer.RetryAfter(err, wait)
		}
		return err
	}
	return observer.Permanent(observer.ReasonPermanent, err)
}

func transient(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return code >= 500
}

func redirected(err error, resp *http.Response) error {
	location, parseErr := resp.Location()
	if parseErr != nil {
		return fmt.Errorf("%w (redirects are not followed)", err)
	}
	return fmt.Errorf("%w to %s (redirects are not followed: configure the final URL)", err, Origin(location))
}

// withoutURL takes the URL off an error of net/http: it may hold secrets.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
