#!/usr/bin/env node
// Signs a C2PA claim with a key that its owner never gives away; speaks the subprocess signer protocol of c2patool.
import { parseArgs } from 'node:util';

import { sigStructure } from './cose.mjs';
import { Signer, SignerError, settingsFrom } from './signer.mjs';

const USAGE = `usage:
  byok-sign --recipe RECIPE --assertion           print the assertion that the manifest must carry
  byok-sign --recipe RECIPE --signer-info         print algorithm, certificates and reserve size, as c2patool asks for
  byok-sign --recipe RECIPE --recipe-hash HASH    sign the Sig_structure on standard input
  byok-sign --recipe RECIPE --recipe-hash HASH --claim    the same, for the claim's CBOR on standard input

RECIPE is [namespace/]name[@version]. HASH is effectiveHash of the assertion that the manifest carries. The signature
goes to standard output. --timeout SECONDS bounds each call with all its attempts; default 30.
BYOK_SIGNER_ADDRESS, BYOK_SIGNER_CA_FILE and BYOK_SIGNER_TOKEN_FILE say where the signer is and what to show it.
Exit status: 0 done, 1 refused, 2 wrong usage, 3 what may pass by itself.
`;
const INPUT_LIMIT = 64 * 1024; // the signer takes no larger Sig_structure

const OPTIONS = {
  recipe: { type: 'string' },
  'recipe-hash': { type: 'string' },
  assertion: { type: 'boolean' },
  'signer-info': { type: 'boolean' },
  claim: { type: 'boolean' },
  timeout: { type: 'string', default: '30' },
  // c2patool passes these on to the process that signs; the recipe has its own.
  alg: { type: 'string' },
  'reserve-size': { type: 'string' },
  'sign-cert': { type: 'string' },
};

async function main() {
  const wanted = parse();
  if (wanted === null) return 2;
  const signer = new Signer({ ...settingsFrom(process.env), timeout: Number(wanted.timeout) * 1000 });
  try {
    const recipe = await signer.recipe(wanted.recipe);
    if (wanted.assertion) print(assertionOf(recipe));
    else if (wanted['signer-info']) print(infoOf(recipe));
    else process.stdout.write(await signatureOf(signer, recipe, wanted));
    return 0;
  } finally {
    signer.close();
  }
}

function parse() {
  try {
    const { values } = parseArgs({ options: OPTIONS });
    const tasks = [values.assertion, values['signer-info'], values['recipe-hash']].filter(Boolean);
    if (values.recipe && tasks.length > 0 && Number(values.timeout) > 0) return values;
  } catch {
    // told below
  }
  process.stderr.write(USAGE);
  return null;
}

function print(document) {
  process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
}

function assertionOf({ namespace, name, version, effectiveHash }) {
  return { label: 'dev.byok.recipe', created: true, data: { namespace, name, version, effectiveHash } };
}

function infoOf(recipe) {
  return {
    alg: recipe.algorithm.toLowerCase(),
    sign_cert: recipe.x5chain.map(pemOf).join(''),
    reserve_size: recipe.reserveSize,
    ...(recipe.timestampUrl ? { tsa_url: recipe.timestampUrl } : {}),
  };
}

function pemOf(der) {
  const lines = der.toString('base64').match(/.{1,64}/g);
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

async function signatureOf(signer, recipe, wanted) {
  const input = await standardInput();
  const toBeSigned = wanted.claim ? sigStructure(recipe.algorithm, recipe.x5chain, input) : input;
  // The hash that the manifest carries, not the present one: the signer refuses if the recipe has changed since.
  const composedUnder = { ...recipe, effectiveHash: wanted['recipe-hash'] };
  return (await signer.sign(composedUnder, toBeSigned)).signature;
}

async function standardInput() {
  const chunks = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    size += chunk.length;
    if (size > INPUT_LIMIT) throw new SignerError('ClaimRefused', `more than ${INPUT_LIMIT} bytes on standard input`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof SignerError)) throw error;
  const call = error.requestId === null ? '' : ` (request ${error.requestId})`;
  process.stderr.write(`byok-sign: ${error.reason}: ${error.message}${call}\n`);
  process.exitCode = error.passes || error.reason === 'SignerUnreachable' ? 3 : 1;
}
