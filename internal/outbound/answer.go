package outbound

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/fraiseql/observer"
)

// Answer is what a receiver said to a request.
type Answer struct {
	Status int
	Header http.Header
	// Body is its beginning, at most 64 KiB, as it came: [Detail] makes of it, or
	// of a part, what people may see.
	Body []byte

	where string
	resp  *http.Response
}

// Send sends req once and reads the answer, whatever its status. An error means
// that there was none that could be read. It is transient unless the address was
// refused, marked [observer.OutcomeUnknown] when something of req was written,
// and contains no URL and nothing that redactor knows.
func Send(client *http.Client, req *http.Request, redactor observer.Redactor) (*Answer, error) {
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
		return nil, Redact(redactor, err)
	}
	if resp.ContentLength != 0 {
		timer := time.AfterFunc(answerTime, cancel)
		defer timer.Stop()
	}
	// A body that breaks off changes nothing: the status is the answer.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, answerBytes))
	_ = resp.Body.Close()
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: body, where: where, resp: resp}, nil
}

// OK reports whether the status is a 2xx.
func (a *Answer) OK() bool { return a.Status >= 200 && a.Status < 300 }

// Failure says that the request failed with the status of a, without saying
// whether trying again can help: for actions whose receivers tell more than the
// status does. It is transient as it is.
func (a *Answer) Failure() error {
	return fmt.Errorf("%s: status %d %s", a.where, a.Status, http.StatusText(a.Status))
}

// Judge is the outcome by the status alone, as [Exchange] describes it.
func (a *Answer) Judge() error {
	if a.OK() {
		return nil
	}
	err := a.Failure()
	switch code := a.Status; {
	case code >= 300 && code < 400:
		return observer.Permanent(observer.ReasonPermanent, redirected(err, a.resp))
	case code == http.StatusGone:
		return observer.Permanent(observer.ReasonGone, err)
	case Transient(code):
		return a.Later(err)
	}
	return observer.Permanent(observer.ReasonPermanent, err)
}

// Later is err as transient, with the wait that the answer asks for.
func (a *Answer) Later(err error) error {
	if wait, ok := retryAfter(a.Header); ok {
		return observer.RetryAfter(err, wait)
	}
	return err
}

// Transient reports whether a request that failed with the HTTP status code may
// pass later.
func Transient(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return code >= 500
}

// Explain adds what the receiver said to err, in the form of [Detail]. It keeps
// what err is marked with, and a nil err stays nil.
func Explain(redactor observer.Redactor, err error, said string) error {
	detail := Detail(redactor, []byte(said))
	if err == nil || detail == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, detail)
}
