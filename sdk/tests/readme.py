"""The samples of sdk/README.md, so that they stay true.

    readme.py kotlin FOLDER      writes each Kotlin sample into a file of its own, to be compiled
    readme.py swift SOURCES      compares what the Swift samples use of the generated client with its sources

No Swift compiler is at hand; what is compared here is what a new openapi.yaml can break: calls with their labels,
initializers, fields and cases."""

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"

# Which type a name of the samples has, and what they cannot do without.
FIELDS = {"upload": "Upload", "chunk": "PresignedChunk", "problem": "Problem", "signed": "PresignedChunks"}
NEEDED = {"getUpload", "reconcileUpload", "presignChunks", "completeUpload"}


def samples(language):
    found = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    if not found:
        raise SystemExit(f"{README} has no {language} sample")
    return found


def write_kotlin(folder):
    folder.mkdir(parents=True)
    for number, text in enumerate(samples("kotlin")):
        (folder / f"sample{number}.kt").write_text(text)


def in_parentheses(text, start):
    """What stands between the parenthesis before `start` and the one that ends it."""
    depth = 1
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[start:end]
    raise SystemExit(f"a parenthesis is never closed: {text[start - 40:start]}")


def split(arguments):
    """The arguments of a call, or the parameters of a declaration, without what is nested in them."""
    flat, depth = [""], 0
    for character in arguments:
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            flat.append("")
        else:
            flat[-1] += character
    return [part.strip() for part in flat if part.strip()]


def misfit(call, declaration):
    """Why a call does not fit a declaration, if it does not."""
    given = [re.match(r"(\w+):", argument) for argument in split(call)]
    if not all(given):
        return "an argument has no label"
    given = [label[1] for label in given]
    parameters = split(declaration)
    labels = [parameter.split(":")[0].split()[0] for parameter in parameters]
    if given != [label for label in labels if label in given]:
        return f"the labels are {', '.join(labels)}, not {', '.join(given)}"
    needed = [label for label, parameter in zip(labels, parameters) if "=" not in parameter]
    if missing := [label for label in needed if label not in given]:
        return f"{', '.join(missing)} is missing"
    return None


def declarations(sources):
    """The static functions and initializers of the client, as `Type.name` and `Type`, and the fields and cases."""
    calls, members = {}, {}
    for source in sources.rglob("*.swift"):
        text, kind = source.read_text(), None
        pattern = r"(?:open class (?!func )|public struct |public enum )(\w+)|(open class func (\w+)|public init)\(|(?:public var|case) (\w+)"
        for found in re.finditer(pattern, text):
            if found[1]:
                kind = found[1]
            elif found[2]:
                name = f"{kind}.{found[3]}" if found[3] else kind
                calls.setdefault(name, in_parentheses(text, found.end()))
            elif found[4]:
                members.setdefault(kind, set()).add(found[4])
    return calls, members


def check_swift(sources):
    calls, members = declarations(sources)
    text = "\n".join(samples("swift"))
    wrong, used = [], set()
    for found in re.finditer(r"\b((\w+API)\.(\w+)|UpFlowClientAPIConfiguration|ChunkRequest|PresignChunks)\(", text):
        name = found[1]
        used.add(found[3])
        if name not in calls:
            wrong.append(f"there is no {name}")
        elif why := misfit(in_parentheses(text, found.end()), calls[name]):
            wrong.append(f"{name}: {why}")
    wrong += [f"there is no call of {name}" for name in sorted(NEEDED - used)]
    for name, field in re.findall(r"(?<![\w.])(%s)\??\.(\w+)" % "|".join(FIELDS), text):
        if field not in members[FIELDS[name]]:
            wrong.append(f"{FIELDS[name]} has no {field}")
    statuses = re.findall(r"(?:case (\.[\w., ]+):|\[(\.[\w., ]+)\]\.contains|waitFor: (\.\w+)|status == (\.\w+))", text)
    cases = set(re.findall(r"\.(\w+)", str(statuses)))
    wrong += [f"UploadStatus has no case {case}" for case in sorted(cases - members["UploadStatus"])]
    if "pendingAssembly" not in cases:
        wrong.append("the samples do not wait for the assembly")
    if wrong:
        raise SystemExit("sdk/README.md, Swift: " + "; ".join(wrong))


if __name__ == "__main__":
    {"kotlin": write_kotlin, "swift": check_swift}[sys.argv[1]](Path(sys.argv[2]))
