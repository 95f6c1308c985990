"""The rows of the lecture "What to do if my network fails to train", in the order of the table of verdicts."""

from types import MappingProxyType

CHAPTERS = MappingProxyType(
    {
        "A": "General guidance: which of four troubles is it?",
        "B": "Critical points",
        "C": "Batch size",
        "D": "Momentum",
        "E": "Adaptive learning rates",
        "F": "Classification",
        "G": "Normalisation",
    }
)
ROWS = MappingProxyType(
    {
        "A1": "An optimisation failure shows as a deep network with a larger training loss than a shallow one",
        "A2": "A linear model and an SVM tell what a simple model reaches",
        "A3": "Each remedy for overfitting moves the gap between training and validation",
        "A4": "N-fold cross-validation ranks models more reliably than one split",
        "A5": "Mismatch is visible in the inputs: training and test features can be told apart",
        "A6": "A training set is bad with probability of at most |H| 2 exp(−2Nε²)",
        "B1": "A loss that stays flat with a large gradient is not at a critical point",
        "B2": "The Hessian's extreme eigenvalues, with error bounds, tell minimum, maximum and saddle apart",
        "B3": "The Taylor model predicts the loss near a point; its error grows as the cube of the step",
        "B4": "Escaping along an eigenvector of negative curvature lowers the loss, by about what was predicted",
        "B5": "y = w₁w₂x at the origin: eigenvalues ±2, a way out along (1, 1)/√2, minima along w₁w₂ = 1",
        "B6": "Local minima are rare in many dimensions",
        "C1": "With parallel hardware a larger batch costs no more time an update, until it does; an epoch takes less",
        "C2": "The gradient of a small batch is noisy, that of a large one stable",
        "C3": "At equal epochs small batches optimise and generalise better; large ones end in sharper minima",
        "C4": "LARS, LAMB, warm-up with linear scaling and SWA make large batches work",
        "D1": "Momentum carries through plateaus, saddles and shallow minima where plain descent stops",
        "E1": "Training stalls while the gradient is large: it bounces between the walls of a valley",
        "E2": "On an elongated convex bowl one rate cannot serve both axes; dividing by σ can",
        "E3": "With a cumulative σ a long flat stretch ends in a burst; decaying η tames it",
        "E4": "Warm-up helps: early σ rests on few gradients",
        "E5": "Momentum and σ do not cancel: one keeps the direction, the other only the size",
        "F1": "With softmax, MSE is flat far from the answer and cross-entropy is not",
        "F2": "Minimising the cross-entropy is maximising the likelihood",
        "F3": "Class numbers as regression targets invent an order that is not there",
        "G1": "Normalising the features rounds the error surface: a smaller condition number, a faster descent",
        "G2": "BatchNorm trains faster, stands larger rates, and makes sigmoid networks trainable",
        "G3": "BatchNorm needs a batch that is large enough to estimate μ and σ",
        "G4": "The reason is not internal covariate shift but a smoother surface",
        "G5": "The relatives: layer, instance, group, weight and spectral normalisation, batch renormalisation",
    }
)
