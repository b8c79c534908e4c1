// Package email is the action that sends a message through an SMTP server.
//
// The subject, the text, the date and the Message-ID are fixed by the first
// attempt and stored with the delivery; sender and recipients follow the
// configuration of the moment, so that a refused address can be mended and the
// message redriven. SMTP has no idempotency key: when a connection breaks after
// the message was handed over, its outcome is unknown, and another attempt may
// send it twice, with the same Message-ID, by which most mailboxes show it once.
package email
