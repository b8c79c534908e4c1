package push

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// quotaWait is what Firebase asks for at least where a quota is used up and the
// answer does not say.
const quotaWait = time.Minute

// said is what is read of an answer: the name of a message, or an error as all
// APIs of Google have it.
type said struct {
	Name  string `json:"name"`
	Error struct {
		Message string   `json:"message"`
		Status  string   `json:"status"` // a word of google.rpc.Code
		Details []detail `json:"details"`
	} `json:"error"`
}

type detail struct {
	Type      string `json:"@type"`
	ErrorCode string `json:"errorCode"` // of an FcmError
}

// code is Firebase's own word for what is wrong, else that of google.rpc.
func (s *said) code() string {
	for _, d := range s.Error.Details {
		if strings.HasSuffix(d.Type, "google.firebase.fcm.v1.FcmError") && d.ErrorCode != "" && d.ErrorCode != "UNSPECIFIED_ERROR" {
			return d.ErrorCode
		}
	}
	return s.Error.Status
}

// read judges an answer. A token that is refused is forgotten, so that the next
// attempt gets a new one.
func (a *Action) read(answer *outbound.Answer, token observer.Secret, redactor observer.Redactor) (observer.Result, error) {
	result := observer.Result{Status: answer.Status, Detail: outbound.Detail(redactor, answer.Body)}
	var s said
	if json.Unmarshal(answer.Body, &s) != nil {
		s = said{} // from a proxy in between
	}
	if answer.OK() {
		if s.Name != "" {
			result.Detail = outbound.Detail(redactor, []byte(s.Name))
		}
		return result, nil
	}
	code := s.code()
	explained := strings.TrimSpace(code + " " + s.Error.Message)
	if code != thirdParty && answer.Status == http.StatusUnauthorized {
		a.tokens.drop(token)
		return result, outbound.Explain(redactor, answer.Failure(), explained)
	}
	return result, outbound.Explain(redactor, judge(answer, code), explained)
}

// thirdParty says that the project has no valid key of Apple or of a browser's
// push service, with the status 401. The token is a good one.
const thirdParty = "THIRD_PARTY_AUTH_ERROR"

// judge says whether trying again can help. A word decides before the status.
func judge(answer *outbound.Answer, code string) error {
	switch code {
	case "QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED":
		err := answer.Later(answer.Failure())
		if _, told := observer.RetryAfterOf(err); !told {
			err = observer.RetryAfter(err, quotaWait)
		}
		return err
	case "UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "UNKNOWN":
		return answer.Later(answer.Failure())
	case "UNREGISTERED", "SENDER_ID_MISMATCH", "INVALID_ARGUMENT", "PERMISSION_DENIED", "NOT_FOUND",
		"FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED", thirdParty:
		// Never gone: one app that was removed says nothing about the project.
		return observer.Permanent(observer.ReasonPermanent, answer.Failure())
	}
	return answer.Judge()
}
