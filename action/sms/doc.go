// Package sms is the action that sends a text message through the Messages API
// of Twilio, or of a provider that offers the same one.
//
// The text is fixed by the first attempt and stored with the delivery; the
// account, the sender and the recipient follow the configuration of the moment.
package sms
