// A client of the signer's gRPC API: recipes, and signatures over C2PA claims.
import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

import { digestOf, isKnown, verify } from './cose.mjs';
import { SignerError, errorOf, retryDelay } from './errors.mjs';

export { SignerError };

const DEFINITION = loadSync(
  ['byok/signer/v1/signer.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'],
  // `json` has the details of a status decoded, which are google.protobuf.Any.
  { includeDirs: [fileURLToPath(new URL('../protos', import.meta.url))], defaults: true, json: true, longs: Number },
);
const { Signer: SignerStub } = grpc.loadPackageDefinition(DEFINITION).byok.signer.v1;
const decodeStatus = (bytes) => DEFINITION['google.rpc.Status'].deserialize(bytes);

const CHANNEL_OPTIONS = {
  // Over all replicas that the name has: what is tried again is then rather asked of another one.
  'grpc.service_config': JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2000,
  // A replica that was replaced has another address under the same name.
  'grpc.dns_min_time_between_resolutions_ms': 1000,
  // A node that died says nothing.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 8000,
  'grpc.max_receive_message_length': 1024 * 1024,
};
const TOKEN_REFUSED = new Set(['TokenExpired', 'TokenInvalid']);
const ADDRESS = /^(?:unix:\/.+|(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5})$/;
const TOKEN = /^[A-Za-z0-9._~+/=-]+$/; // RFC 6750, section 2.1

/** Where the signer is, how to trust it, and what to show it: the variables that the Python SDK reads too. */
export function settingsFrom(environment) {
  const address = environment.BYOK_SIGNER_ADDRESS;
  if (!address) throw new SignerError('ConfigurationInvalid', 'BYOK_SIGNER_ADDRESS is not set: where is the signer?');
  if (!ADDRESS.test(address)) {
    throw new SignerError('ConfigurationInvalid', 'BYOK_SIGNER_ADDRESS is neither host:port nor unix:/path');
  }
  return {
    address,
    caFile: environment.BYOK_SIGNER_CA_FILE || null,
    tokenFile: environment.BYOK_SIGNER_TOKEN_FILE || '/var/run/secrets/byok-signer/token',
    timeout: 30_000,
  };
}

/** One for a process: it keeps a channel, and may have many calls under way. */
export class Signer {
  #settings;
  #stub = null;
  #trusted = null;

  /** `timeout`: milliseconds for one call with all its attempts. */
  constructor(settings) {
    this.#settings = settings;
  }

  close() {
    this.#stub?.close();
  }

  /** What a manifest must meet, and the chain that will sign it; use it for a minute or so. */
  async recipe(reference) {
    const answer = await this.#call('GetRecipe', { recipe: reference });
    if (!isKnown(answer.algorithm) || answer.x5chain.length === 0) {
      throw new SignerError('RecipeInvalid', `${reference}: this client knows no algorithm ${answer.algorithm}`);
    }
    return { ...answer, reference: `${answer.namespace}/${answer.name}@${answer.version}` };
  }

  /**
   * Signs what a C2PA library wants signed: the COSE Sig_structure of a claim. This is the body of the callback that
   * c2pa-node, c2pa-rs and c2pa-python take. `recipe` is the one that the manifest was composed under.
   *
   * Throws SignerError; on RecipeChanged and CertificateChanged get the recipe again and compose the manifest anew.
   */
  async sign(recipe, toBeSigned) {
    const request = { recipe: recipe.reference, expectedRecipeHash: recipe.effectiveHash };
    const digest = digestOf(recipe.algorithm, toBeSigned);
    const answer =
      digest === null
        ? await this.#call('SignClaim', { ...request, claim: toBeSigned })
        : await this.#call('SignDigest', { ...request, digest, evidence: toBeSigned });
    if (!verify(recipe.algorithm, recipe.x5chain[0], toBeSigned, answer.signature)) {
      throw new SignerError('SigningFailed', `what the signer answered is no signature by the key of ${recipe.key}`);
    }
    return answer;
  }

  async #call(method, request) {
    const deadline = Date.now() + this.#settings.timeout;
    let renewed = false;
    let last = null;
    for (let attempt = 0; ; ) {
      const token = this.#token();
      try {
        return await this.#attempt(method, request, token, deadline);
      } catch (error) {
        if (!(error instanceof SignerError)) throw error;
        // The kubelet may have rotated the token between the reading and the signer's looking at it.
        if (!renewed && TOKEN_REFUSED.has(error.reason) && this.#token() !== token) {
          renewed = true;
          continue;
        }
        const delay = retryDelay(error, attempt, deadline - Date.now(), Math.random());
        const told = last !== null && saysLittle(error) ? last : error;
        if (delay === null) throw told;
        last = told;
        attempt += 1;
        await sleep(delay);
      }
    }
  }

  #attempt(method, request, token, deadline) {
    const metadata = new grpc.Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    const stub = this.#connected();
    return new Promise((resolve, reject) => {
      stub[method](request, metadata, { deadline }, (failure, answer) => {
        if (failure) reject(errorOf(failure, decodeStatus));
        else resolve(answer);
      });
    });
  }

  /** Connects anew once the CA file holds other certificates; calls under way end on the old channel. */
  #connected() {
    const { address, caFile } = this.#settings;
    const trusted = caFile === null ? null : read(caFile, 'ConfigurationInvalid');
    if (this.#stub === null || trusted !== this.#trusted) {
      const [target, credentials] = address.startsWith('unix:')
        ? [address, grpc.credentials.createInsecure()]
        : [`dns:${address}`, secured(trusted, caFile)];
      this.#stub?.close();
      this.#stub = new SignerStub(target, credentials, CHANNEL_OPTIONS);
      this.#trusted = trusted;
    }
    return this.#stub;
  }

  /** The token as its file has it now: the kubelet rotates it under a running job. */
  #token() {
    const { tokenFile } = this.#settings;
    const token = read(tokenFile, 'TokenMissing').trim();
    if (!TOKEN.test(token)) throw new SignerError('TokenInvalid', `${tokenFile} does not hold a token`);
    return token;
  }
}

/** Whether it tells of an attempt that it had no time, or had to wait for a connection: not why there were others. */
function saysLittle(error) {
  return error.code === grpc.status.DEADLINE_EXCEEDED || error.message.includes('Last error: null');
}

/** Trusts the CA file's certificates, or without one the system's. */
function secured(trusted, caFile) {
  if (trusted === null) return grpc.credentials.createSsl();
  try {
    // Without this, Node trusts nobody and does not say why.
    new X509Certificate(trusted);
  } catch {
    throw new SignerError('ConfigurationInvalid', `${caFile} holds no PEM certificate`);
  }
  return grpc.credentials.createSsl(Buffer.from(trusted));
}

const FILE_LIMIT = 1024 * 1024;

function read(path, reason) {
  try {
    if (statSync(path).size <= FILE_LIMIT) return readFileSync(path, 'utf8');
  } catch (error) {
    throw new SignerError(reason, `${path} cannot be read: ${error.code}`);
  }
  throw new SignerError(reason, `${path} is longer than ${FILE_LIMIT} bytes`);
}
