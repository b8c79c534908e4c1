package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// exchange gets access tokens for an account.
type exchange struct {
	client   *http.Client
	account  *account
	redactor observer.Redactor
}

// fetch asks for an access token. Whatever goes wrong, no notification was sent:
// its errors never say that the outcome is unknown.
func (x exchange) fetch(ctx context.Context) (observer.Secret, time.Duration, error) {
	assertion, err := x.account.assertion(time.Now())
	if err != nil {
		return observer.Secret{}, 0, observer.Permanent(observer.ReasonPermanent, err)
	}
	redactor := x.redactor.With(observer.NewSecret(assertion))
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}
	req, err := outbound.NewPost(ctx, x.account.tokenURI, outbound.TypeForm, []byte(form.Encode()))
	if err != nil {
		return observer.Secret{}, 0, err
	}
	answer, err := outbound.Send(x.client, req, redactor)
	if err != nil {
		return observer.Secret{}, 0, unsent(fmt.Errorf("get an access token: %w", err))
	}
	token, counts, err := readToken(answer, redactor)
	if err != nil {
		return observer.Secret{}, 0, outbound.Redact(redactor, fmt.Errorf("get an access token: %w", err))
	}
	return token, counts, nil
}

// unsent takes the mark of an unknown outcome off err: what is unknown is only
// what became of the request for a token.
func unsent(err error) error {
	hidden := error(&notSentError{err})
	if !observer.Retryable(err) {
		return observer.Permanent(observer.ReasonOf(err), hidden)
	}
	return hidden
}

// notSentError is found by errors.Is, and not looked into by errors.As.
type notSentError struct{ cause error }

func (e *notSentError) Error() string        { return e.cause.Error() }
func (e *notSentError) Is(target error) bool { return errors.Is(e.cause, target) }

// readToken reads the answer of RFC 6749, sections 5.1 and 5.2. A successful one
// is a secret: nothing of it is ever told.
func readToken(answer *outbound.Answer, redactor observer.Redactor) (observer.Secret, time.Duration, error) {
	var said struct {
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"` // seconds
		Error       string  `json:"error"`
		Description string  `json:"error_description"`
	}
	readErr := json.Unmarshal(answer.Body, &said)
	if !answer.OK() {
		text := said.Error
		if said.Description != "" {
			text += ": " + said.Description
		}
		return observer.Secret{}, 0, outbound.Explain(redactor, answer.Judge(), text)
	}
	counts, ok := outbound.Seconds(said.ExpiresIn)
	if readErr != nil || said.AccessToken == "" || !ok {
		return observer.Secret{}, 0, errors.New("the answer has no access_token with expires_in")
	}
	return observer.NewSecret(said.AccessToken), counts, nil
}
