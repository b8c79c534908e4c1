package teams

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// failedInside is how an incoming webhook tells, with status 200, that the
// service behind it refused the message.
const failedInside = "Webhook message delivery failed"

var insideStatus = regexp.MustCompile(`HTTP error (\d{3})\b`)

// judge reads an answer. A workflow says 202, or an error status; an incoming
// webhook says 200 and "1", or 200 and a text that has the status it means.
func judge(answer *outbound.Answer) error {
	text := string(answer.Body)
	if !answer.OK() || !strings.Contains(text, failedInside) {
		return answer.Judge()
	}
	err := errors.New("incoming webhook: Teams did not take the message")
	found := insideStatus.FindStringSubmatch(text)
	if found == nil {
		return err
	}
	code, convErr := strconv.Atoi(found[1])
	if convErr != nil {
		return err // cannot happen: it is three digits
	}
	err = fmt.Errorf("%w: status %d %s", err, code, http.StatusText(code))
	switch {
	case code == http.StatusGone:
		return observer.Permanent(observer.ReasonGone, err)
	case outbound.Transient(code):
		return answer.Later(err)
	}
	return observer.Permanent(observer.ReasonPermanent, err)
}
