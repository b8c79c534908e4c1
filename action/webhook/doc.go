// Package webhook is the action that calls an HTTP receiver, signed by Standard
// Webhooks.
//
// What is said, the body and its content type, is fixed by the first attempt
// and stored with the delivery. Where it goes and how, the URL, the method, the
// headers and the signing secrets, follows the configuration of the moment: a
// dead letter can be delivered after a wrong URL or an expired token was mended.
package webhook
