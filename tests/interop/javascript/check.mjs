// Reads what this project signed with libraries of others: tuf-js follows the release repository over HTTP, @sigstore/core
// makes the bytes that an envelope's signature is over. Prints one JSON object; ends with 1 when anything is refused.
//
//     node check.mjs release METADATA_DIRECTORY BASE_URL TARGET...
//     node check.mjs envelope ENVELOPE_FILE PUBLIC_KEY_HEX
import { createRequire } from "node:module";
import crypto from "node:crypto";
import fs from "node:fs";

const require = createRequire(process.env.FLEET_MODULES + "/");

async function release(directory, base, ...paths) {
  const { Updater } = require("tuf-js");
  const updater = new Updater({
    metadataDir: directory,
    metadataBaseUrl: `${base}/metadata`,
    targetDir: directory,
    targetBaseUrl: `${base}/targets`,
  });
  await updater.refresh();
  const found = {};
  for (const path of paths) {
    const info = await updater.getTargetInfo(path);
    found[path] = info === undefined ? null : fs.statSync(await updater.downloadTarget(info)).size;
  }
  return found;
}

function envelope(file, publicKey) {
  const { dsse } = require("@sigstore/core");
  const document = JSON.parse(fs.readFileSync(file));
  const signed = dsse.preAuthEncoding(document.payloadType, Buffer.from(document.payload, "base64"));
  const key = crypto.createPublicKey({
    // SubjectPublicKeyInfo of an Ed25519 key (RFC 8410, section 4)
    key: Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), Buffer.from(publicKey, "hex")]),
    format: "der",
    type: "spki",
  });
  const verified = document.signatures.filter((each) => crypto.verify(null, signed, key, Buffer.from(each.sig, "base64")));
  if (verified.length === 0) throw new Error("no signature verifies");
  return { signatures: verified.length };
}

const [command, ...rest] = process.argv.slice(2);
try {
  console.log(JSON.stringify(await { release, envelope }[command](...rest)));
} catch (error) {
  console.log(JSON.stringify({ refused: error.constructor.name, message: error.message }));
  process.exit(1);
}
