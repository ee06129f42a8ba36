// What a failed call means, and whether to try again.
import { status } from '@grpc/grpc-js';

const DOMAIN = 'byok.dev';
const DETAILS = 'grpc-status-details-bin';

/** The signer refused (`reason` is one of docs/reference/errors.md), or could not be reached. */
export class SignerError extends Error {
  constructor(reason, message, { code = null, retryAfter = null, unanswered = false, requestId = null } = {}) {
    super(message);
    this.name = 'SignerError';
    this.reason = reason;
    this.code = code;
    /** Milliseconds that the signer asks to wait; null where waiting does not help. */
    this.retryAfter = retryAfter;
    /** Whether no signer answered at all, so that another replica may, or the same one later. */
    this.unanswered = unanswered;
    /** Names the call in the signer's log and audit trail. */
    this.requestId = requestId;
  }

  /** Whether the same call may succeed later. */
  get passes() {
    return this.retryAfter !== null || this.unanswered;
  }
}

/** Reads ErrorInfo and RetryInfo of a failed call; `decode` reads a google.rpc.Status with its details. */
export function errorOf(failure, decode) {
  const requestId = failure.metadata?.get('x-request-id')[0] ?? null;
  const details = detailsOf(failure, decode);
  const info = details.find((detail) => typeOf(detail) === 'google.rpc.ErrorInfo' && detail.domain === DOMAIN);
  if (info === undefined) return withoutDetails(failure, requestId);
  const retry = details.find((detail) => typeOf(detail) === 'google.rpc.RetryInfo')?.retryDelay;
  const retryAfter = retry ? retry.seconds * 1000 + retry.nanos / 1e6 : null;
  return new SignerError(info.reason, failure.details, { code: failure.code, retryAfter, requestId });
}

function detailsOf(failure, decode) {
  const [encoded] = failure.metadata?.get(DETAILS) ?? [];
  if (encoded === undefined) return [];
  try {
    return decode(encoded).details;
  } catch {
    return []; // something before the signer wrote it
  }
}

function typeOf(detail) {
  return detail['@type']?.split('/').pop();
}

function withoutDetails(failure, requestId) {
  const { code, details } = failure;
  // A server that stops cancels what reached it too late; one that is full has no room for another call.
  const full = code === status.RESOURCE_EXHAUSTED && !/larger than|metadata size/.test(details);
  // @grpc/grpc-js calls it internal when a signer is gone in the middle of a call.
  const cut = code === status.INTERNAL && /internal client error/.test(details);
  const unanswered = code === status.UNAVAILABLE || code === status.CANCELLED || full || cut;
  const silent = unanswered || code === status.DEADLINE_EXCEEDED;
  return new SignerError(silent ? 'SignerUnreachable' : 'Internal', `${status[code] ?? code}: ${details}`, {
    code,
    unanswered,
    requestId,
  });
}

const [BASE, LIMIT, LEAST, JITTER] = [100, 2000, 10, 0.25];

/**
 * Milliseconds to wait before attempt number `attempt` + 1, or null to give up: never less than the signer asks for,
 * longer each time, and not beyond what remains until the deadline. `chance` is in [0, 1) and spreads the clients.
 */
export function retryDelay(error, attempt, remaining, chance) {
  const growth = 2 ** Math.min(attempt, 16);
  let delay;
  if (error.retryAfter !== null) {
    const least = Math.max(error.retryAfter, LEAST);
    delay = Math.min(Math.max(LIMIT, least), least * growth) * (1 + JITTER * chance);
  } else if (error.unanswered) {
    delay = Math.min(LIMIT, BASE * growth) * (0.5 + chance / 2);
  } else {
    return null;
  }
  return delay < remaining ? delay : null;
}
