package signer

import (
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const domain = "byok.dev"

// Error says that the signer refused, or could not be reached.
type Error struct {
	// Reason is one of docs/reference/errors.md.
	Reason  string
	Message string
	Code    codes.Code
	// RequestID names the call in the signer's log and audit trail.
	RequestID string

	retryAfter *time.Duration
	unanswered bool
}

func (e *Error) Error() string {
	if e.RequestID == "" {
		return fmt.Sprintf("%s: %s", e.Reason, e.Message)
	}
	return fmt.Sprintf("%s: %s (request %s)", e.Reason, e.Message, e.RequestID)
}

// Passes says whether the same call may succeed later.
func (e *Error) Passes() bool {
	return e.retryAfter != nil || e.Reason == "SignerUnreachable"
}

// errorOf reads ErrorInfo and RetryInfo of a failed call, or tells what it means that there are none.
func errorOf(err error, requestID string) *Error {
	said := status.Convert(err)
	found := &Error{Message: said.Message(), Code: said.Code(), RequestID: requestID}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				found.Reason = detail.GetReason()
			}
		case *errdetails.RetryInfo:
			delay := detail.GetRetryDelay().AsDuration()
			found.retryAfter = &delay
		}
	}
	if found.Reason != "" {
		return found
	}
	// Not the signer's own answer, so neither is the advice.
	found.retryAfter = nil
	found.Message = fmt.Sprintf("%s: %s", found.Code, found.Message)
	switch found.Code {
	case codes.Unavailable, codes.Canceled: // a server that stops cancels what reached it too late
		found.unanswered = true
	case codes.ResourceExhausted: // one that is full has no room for another call; a message too large stays so
		found.unanswered = !strings.Contains(said.Message(), "larger than")
	}
	found.Reason = "Internal"
	if found.unanswered || found.Code == codes.DeadlineExceeded {
		found.Reason = "SignerUnreachable"
	}
	return found
}

const (
	base   = 100 * time.Millisecond
	limit  = 2 * time.Second
	least  = 10 * time.Millisecond
	jitter = 0.25
)

// retryDelay says how long to wait before attempt number attempt+1, and whether there is to be one: never less than the
// signer asks for, longer each time, and not beyond what remains until the deadline. chance is in [0, 1) and spreads the
// clients.
func (e *Error) retryDelay(attempt int, remaining time.Duration, chance float64) (time.Duration, bool) {
	growth := math.Pow(2, float64(min(attempt, 16)))
	var delay time.Duration
	switch {
	case e.retryAfter != nil:
		asked := max(*e.retryAfter, least)
		delay = time.Duration(math.Min(float64(max(limit, asked)), float64(asked)*growth) * (1 + jitter*chance))
	case e.unanswered:
		delay = time.Duration(math.Min(float64(limit), float64(base)*growth) * (0.5 + chance/2))
	default:
		return 0, false
	}
	return delay, delay < remaining
}
