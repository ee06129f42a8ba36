// What a C2PA claim signature is made over, and how to check one; no network.
import { X509Certificate, constants, createHash, verify as verifySignature } from 'node:crypto';

// COSE algorithm numbers (RFC 9053, section 2; RFC 8230, section 2), and what is hashed with what. Ed25519 signs the
// message itself, so there is no digest of it.
const ALGORITHMS = {
  ES256: { cose: -7, hash: 'sha256', padding: 'p1363' },
  ES384: { cose: -35, hash: 'sha384', padding: 'p1363' },
  ES512: { cose: -36, hash: 'sha512', padding: 'p1363' },
  PS256: { cose: -37, hash: 'sha256', padding: 'pss' },
  PS384: { cose: -38, hash: 'sha384', padding: 'pss' },
  PS512: { cose: -39, hash: 'sha512', padding: 'pss' },
  Ed25519: { cose: -8, hash: null, padding: 'none' },
};

/** Whether this module can do what follows with an algorithm. */
export function isKnown(algorithm) {
  return Object.hasOwn(ALGORITHMS, algorithm);
}

function factsOf(algorithm) {
  if (!isKnown(algorithm)) throw new RangeError(`${algorithm} is no algorithm of C2PA`);
  return ALGORITHMS[algorithm];
}

/** The digest that SignDigest takes; null for Ed25519, which SignClaim signs. */
export function digestOf(algorithm, toBeSigned) {
  const { hash } = factsOf(algorithm);
  return hash === null ? null : createHash(hash).update(toBeSigned).digest();
}

/** Whether the leaf certificate's key made this signature, in the form that COSE carries (IEEE P1363 for ECDSA). */
export function verify(algorithm, leaf, toBeSigned, signature) {
  const { hash, padding } = factsOf(algorithm);
  const key = { key: new X509Certificate(leaf).publicKey };
  if (padding === 'p1363') {
    key.dsaEncoding = 'ieee-p1363';
  } else if (padding === 'pss') {
    key.padding = constants.RSA_PKCS1_PSS_PADDING;
    key.saltLength = constants.RSA_PSS_SALTLEN_DIGEST; // RFC 8230, section 2
  }
  return verifySignature(hash, toBeSigned, key, signature);
}

/**
 * The Sig_structure (RFC 9052, section 4.4) of a claim, for libraries that hand out the claim's CBOR alone:
 * ["Signature1", protected, h'', claim], where protected is {1: alg, 33: x5chain} (RFC 9360, section 2).
 */
export function sigStructure(algorithm, x5chain, claim) {
  const chain = x5chain.map(byteString);
  const header = Buffer.concat([
    head(MAP, 2),
    head(UNSIGNED, 1),
    head(NEGATIVE, -1 - factsOf(algorithm).cose),
    head(UNSIGNED, 33),
    // One certificate alone stands there as a byte string, not as an array of one.
    ...(chain.length === 1 ? chain : [head(ARRAY, chain.length), ...chain]),
  ]);
  const context = Buffer.from('Signature1');
  return Buffer.concat([
    head(ARRAY, 4),
    head(TEXT, context.length),
    context,
    byteString(header),
    byteString(Buffer.alloc(0)),
    byteString(claim),
  ]);
}

// Major types of CBOR (RFC 8949, section 3.1).
const [UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP] = [0, 1, 2, 3, 4, 5];

function byteString(bytes) {
  return Buffer.concat([head(BYTES, bytes.length), bytes]);
}

/** A data item's head with its argument in the shortest form (RFC 8949, section 4.2.1). */
function head(majorType, argument) {
  const type = majorType << 5;
  if (argument < 24) return Buffer.from([type | argument]);
  if (argument < 0x100) return Buffer.from([type | 24, argument]);
  if (argument < 0x10000) return Buffer.from([type | 25, argument >> 8, argument & 0xff]);
  const bytes = Buffer.alloc(5, type | 26);
  bytes.writeUInt32BE(argument, 1);
  return bytes;
}
