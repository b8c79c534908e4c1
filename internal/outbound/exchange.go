package outbound

import (
	"errors"
	"fmt"
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
	answer, err := Send(client, req, redactor)
	if err != nil {
		return observer.Result{}, err
	}
	result := observer.Result{Status: answer.Status, Detail: Detail(redactor, answer.Body)}
	return result, Redact(redactor, answer.Judge())
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
